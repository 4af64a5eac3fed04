// SPDX-License-Identifier: Apache-2.0 OR MIT
//! After the jump: one type per state, and what all of them can tell.

use std::fmt;
use std::marker::PhantomData;

use hitless_uapi::iommufd::{DeviceId, HwptId};
use hitless_uapi::{Iommufd, LiveUpdate, Memfd, Session, VfioDevice};

use crate::error::{at, Error, Flaw, Kind, Object, Step, Stuck};
use crate::manifest::{Manifest, MANIFEST_TOKEN, MAX_LENGTH, NOTES_TOKEN};
use crate::mapping::Mapping;
use crate::notes::Notes;
use crate::parts::{Built, Device, Parts, Table};
use crate::plan::Interrupts;

mod sealed {
    pub trait Stage {}
}

/// A state of what comes in. There are six: [`Found`], [`Retrieved`], [`Bound`], [`Rebuilt`], [`Swapped`] and
/// [`Finished`].
pub trait Stage: sealed::Stage {
    /// Its name.
    const NAME: &'static str;
}

macro_rules! stages {
    ($($(#[$about:meta])* $stage:ident;)*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $stage(());

        impl sealed::Stage for $stage {}
        impl Stage for $stage {
            const NAME: &'static str = stringify!($stage);
        }
    )*};
}

stages! {
    /// The session is found, and what it says of itself is accepted. Next: [`Incoming::retrieve`].
    Found;
    /// All files are there. Next: [`Incoming::bind`].
    Retrieved;
    /// All devices are bound, and what they run on is known. Their registers can be used. Next: [`Incoming::rebuild`].
    Bound;
    /// There is a new HWPT for each restored one. Next: [`Incoming::swap`].
    Rebuilt;
    /// All devices run on what this kernel has built. Next: [`Incoming::arm`] where there are interrupts, and
    /// [`Incoming::finish`].
    Swapped;
    /// The update is over.
    Finished;
}

/// A VM that comes in through the update, at one stage of its way.
///
/// The states follow each other, each one made by a call on the one before:
/// [`find`](Incoming::find) → [`retrieve`](Incoming::retrieve) → [`bind`](Incoming::bind) →
/// [`rebuild`](Incoming::rebuild) → [`swap`](Incoming::swap) → [`arm`](Incoming::arm) → [`finish`](Incoming::finish).
/// A call that fails gives the state back, in a [`Stuck`]: what it has done so far stays done, and calling it again goes on
/// from there. The devices go on all the time.
///
/// Dropping it before [`finish`](Incoming::finish) closes this process's descriptors. As long as no device is swapped the
/// session is back where it was, and can be found again by this process or by another one, which goes on where this one
/// was. Between swap and finish the last descriptor of the session must not be closed: the kernel finishes the session then,
/// and stops the devices.
///
/// ```no_run
/// use hitless_uapi::LiveUpdate;
/// use hitless_vmm::{Incoming, Running};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // vfio-pci is bound to the VM's devices.
/// let vm = Incoming::find(&LiveUpdate::open()?, "vm-7")?.retrieve()?.bind()?;
/// let _cpus: &[u8] = vm.state();
/// let _ram = vm.memory("ram")?.map()?;
/// let vm = vm.rebuild()?.swap()?;
/// let running: Running = vm.finish()?;
/// let _nic = running.device("nic")?;
/// # Ok(())
/// # }
/// ```
pub struct Incoming<S> {
    pub(crate) parts: Box<Parts>,
    stage: PhantomData<S>,
}

impl<S: Stage> fmt::Debug for Incoming<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("stage", &S::NAME)
            .field("parts", &self.parts)
            .finish()
    }
}

impl Incoming<Found> {
    /// Finds the session of this name that the kernel before left, and reads what it says of itself.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `ENOENT` when there is no such session, with `EINVAL` when somebody has it already;
    /// [`Error::Manifest`] when it was not made by this library, or by one of an unknown version.
    pub fn find(liveupdate: &LiveUpdate, name: &str) -> Result<Self, Error> {
        let object = || Object::Session(name.to_owned());
        let session = liveupdate.retrieve_session(name);
        Self::find_in(session.map_err(at(Step::Find, object))?)
    }

    /// The same with a session that somebody else has found, for example a daemon that keeps `/dev/liveupdate` open.
    ///
    /// # Errors
    ///
    /// As [`Incoming::find`].
    pub fn find_in(session: Session) -> Result<Self, Error> {
        let (step, unnamed) = (Step::Find, || Object::Session(String::new()));
        let name = session.name().map_err(at(step, unnamed))?;
        let file = session.retrieve_fd(MANIFEST_TOKEN).map(Memfd::from);
        let bytes = file.and_then(|file| file.content(MAX_LENGTH));
        let bytes = bytes.map_err(at(step, || Object::Manifest))?;
        let manifest = Manifest::decode(&bytes).map_err(Error::Manifest)?;
        let file = session.retrieve_fd(NOTES_TOKEN).map(Memfd::from);
        let notes = file.and_then(|file| Notes::open(&file, &manifest.plan));
        let notes = notes.map_err(at(step, || Object::Notes))?;
        let notes = notes.ok_or(Error::Manifest(Flaw::Notes))?;
        let plan = &manifest.plan;
        let parts = Parts {
            devices: (0..plan.devices.len())
                .map(|index| Device::of(&notes, index))
                .collect(),
            tables: plan.hwpts.iter().map(|_| Table::default()).collect(),
            iommufds: plan.iommufds.iter().map(|_| None).collect(),
            memories: plan.memories.iter().map(|_| None).collect(),
            notes,
            manifest,
            name,
            session,
        };
        Ok(Self::new(Box::new(parts)))
    }

    /// Takes all files out of the session.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]. While vfio-pci is not bound to a device it is `EAGAIN`, which [`Error::is_too_early`] tells: bind
    /// the driver and call this again. A device that is refused with another error is not taken over: it can be given up
    /// with [`Incoming::give_up`], and the others be retrieved by calling this again.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Error, Incoming, incoming::{Found, Retrieved}};
    /// # fn bind_drivers() {}
    /// # fn example(mut vm: Incoming<Found>) -> Result<Incoming<Retrieved>, Error> {
    /// loop {
    ///     match vm.retrieve() {
    ///         Ok(retrieved) => break Ok(retrieved),
    ///         Err(stuck) if stuck.error.is_too_early() => vm = stuck.state,
    ///         Err(stuck) => break Err(stuck.error),
    ///     }
    ///     bind_drivers();
    /// }
    /// # }
    /// ```
    pub fn retrieve(mut self) -> Result<Incoming<Retrieved>, Stuck<Self>> {
        match self.parts.retrieve_all() {
            Ok(()) => Ok(self.next()),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }
}

impl<S: Stage> Incoming<S> {
    pub(crate) fn new(parts: Box<Parts>) -> Self {
        let stage = PhantomData;
        Self { parts, stage }
    }

    pub(crate) fn next<N: Stage>(self) -> Incoming<N> {
        Incoming::new(self.parts)
    }

    /// The session. Once it is finished it answers no call but for its name.
    pub fn session(&self) -> &Session {
        &self.parts.session
    }

    /// The session's name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The VMM's own state, as it was given to [`Collected::state`](crate::Collected::state).
    pub fn state(&self) -> &[u8] {
        &self.parts.manifest.state
    }

    /// The names of all objects of a kind, in the order in which they were collected.
    ///
    /// ```no_run
    /// # use hitless_vmm::{error::Kind, Incoming, incoming::Retrieved};
    /// # fn example(vm: &Incoming<Retrieved>) -> Result<(), hitless_vmm::Error> {
    /// for name in vm.names(Kind::Memory) {
    ///     println!("{name}: {} bytes", vm.memory(name)?.length().unwrap_or(0));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn names(&self, kind: Kind) -> Vec<&str> {
        let plan = &self.parts.manifest.plan;
        match kind {
            Kind::Memory => plan.memories.iter().map(String::as_str).collect(),
            Kind::Iommufd => plan.iommufds.iter().map(String::as_str).collect(),
            Kind::Hwpt => plan.hwpts.iter().map(|hwpt| &*hwpt.name).collect(),
            Kind::Device => plan.devices.iter().map(|device| &*device.name).collect(),
        }
    }

    /// A memfd.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when there is none of this name, or it was not retrieved yet.
    pub fn memory(&self, name: &str) -> Result<&Memfd, Error> {
        let index = self.parts.manifest.plan.find(Kind::Memory, name)?;
        self.parts.memories[index]
            .as_ref()
            .ok_or_else(|| missing(Kind::Memory, name))
    }

    /// An iommufd.
    ///
    /// # Errors
    ///
    /// As [`Incoming::memory`].
    pub fn iommufd(&self, name: &str) -> Result<&Iommufd, Error> {
        let index = self.parts.manifest.plan.find(Kind::Iommufd, name)?;
        self.parts.iommufds[index]
            .as_ref()
            .ok_or_else(|| missing(Kind::Iommufd, name))
    }

    /// A device file. Before the device is bound it answers no call.
    ///
    /// # Errors
    ///
    /// As [`Incoming::memory`].
    pub fn device(&self, name: &str) -> Result<&VfioDevice, Error> {
        let index = self.parts.manifest.plan.find(Kind::Device, name)?;
        let device = &self.parts.devices[index];
        device
            .file
            .as_ref()
            .ok_or_else(|| missing(Kind::Device, name))
    }

    /// The id of a bound device in its iommufd.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when there is none of this name, or it was not bound yet.
    pub fn device_id(&self, name: &str) -> Result<DeviceId, Error> {
        let index = self.parts.manifest.plan.find(Kind::Device, name)?;
        self.parts.devices[index]
            .id
            .ok_or_else(|| missing(Kind::Device, name))
    }

    /// The interrupts that a device had, and that were taken down; `None` when it had none.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn interrupts(&self, device: &str) -> Result<Option<Interrupts>, Error> {
        let plan = &self.parts.manifest.plan;
        Ok(plan.devices[plan.find(Kind::Device, device)?].interrupts)
    }

    /// What the VMM said before the jump that a HWPT maps; empty when it did not.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn mappings(&self, hwpt: &str) -> Result<&[Mapping], Error> {
        let plan = &self.parts.manifest.plan;
        Ok(&plan.hwpts[plan.find(Kind::Hwpt, hwpt)?].mappings)
    }

    /// The restored HWPT of this name: from [`Incoming::bind`] on, until [`Incoming::swap`] has destroyed it.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn restored(&self, hwpt: &str) -> Result<Option<HwptId>, Error> {
        let index = self.parts.manifest.plan.find(Kind::Hwpt, hwpt)?;
        Ok(self.parts.tables[index].restored)
    }

    /// What takes the place of a HWPT: from [`Incoming::rebuild`] on.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn built(&self, hwpt: &str) -> Result<Option<Built>, Error> {
        let index = self.parts.manifest.plan.find(Kind::Hwpt, hwpt)?;
        Ok(self.parts.tables[index].all())
    }

    /// Whether a device was given up, by this process or by one that had the session before.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn is_given_up(&self, device: &str) -> Result<bool, Error> {
        let index = self.parts.manifest.plan.find(Kind::Device, device)?;
        Ok(self.parts.devices[index].given_up)
    }

    /// Gives a device up: its DMA stops, and the session can be finished without it. It is not reset; reset it before it is
    /// used again. A device that the kernel did not take over is given up by taking note of that.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Error, Incoming, incoming::{Rebuilt, Swapped}};
    /// # fn example(vm: Incoming<Rebuilt>) -> Result<Incoming<Swapped>, Error> {
    /// match vm.swap() {
    ///     Ok(swapped) => Ok(swapped),
    ///     Err(mut stuck) => {
    ///         stuck.state.give_up("gpu")?;
    ///         Ok(stuck.state.swap()?)
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`]; [`Error::Refused`], with which the device stays as it was. It is `EAGAIN` while vfio-pci is not
    /// bound to the device.
    pub fn give_up(&mut self, device: &str) -> Result<(), Error> {
        let index = self.parts.manifest.plan.find(Kind::Device, device)?;
        self.parts.give_up(index)
    }
}

fn missing(kind: Kind, name: &str) -> Error {
    let name = name.to_owned();
    Error::Unknown { kind, name }
}
