// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Before the jump: what is collected, preserved, and taken back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hitless_uapi::iommufd::HwptId;
use hitless_uapi::vfio::Irq;
use hitless_uapi::{kexec, Iommufd, LiveUpdate, Memfd, Session, VfioDevice};
use rustix::io::Errno;

use crate::error::{at, Error, Kind, Object, Step, Stuck};
use crate::interrupts;
use crate::manifest::{Manifest, Tokens, MANIFEST_TOKEN, MAX_STATE, NOTES_TOKEN};
use crate::mapping::Mapping;
use crate::notes::Notes;
use crate::plan::Plan;

/// What the HWPT's own id is made a token by. The same HWPT gets the same token each time, and no two of an iommufd share
/// one: a mark cannot be taken back, and outlives a session that was closed.
const HWPT_TOKEN: u64 = 0x6869_746c << 32;

/// Everything of a VM that goes through the update.
///
/// Each object has a name that the VMM chooses. It finds the object by this name after the jump, and every error has it.
/// The descriptors are duplicated, so the caller keeps its own.
///
/// ```no_run
/// use hitless_uapi::iommufd::HwptId;
/// use hitless_uapi::{Iommufd, LiveUpdate, Memfd, VfioDevice};
/// use hitless_vmm::{Collected, Mapping, Rights};
/// # fn example(memfd: &Memfd, iommufd: &Iommufd, hwpt: HwptId, nic: &VfioDevice, cpus: Vec<u8>)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// let ram = Mapping { iova: 0, length: 1 << 30, memory: "ram".into(), offset: 0, rights: Rights::ReadWrite };
/// let vm = Collected::new("vm-7")
///     .memory("ram", memfd)?
///     .iommufd("iommu", iommufd)?
///     .hwpt("dma", "iommu", hwpt)?
///     .mapping("dma", ram)?
///     .device("nic", nic, "dma")?
///     .state(cpus)?;
/// let preserved = vm.preserve(&LiveUpdate::open()?)?;
/// // The virtual processors are stopped, and the next kernel has been loaded. This returns only when it is refused.
/// let error = preserved.jump();
/// println!("no jump: {error}");
/// let _vm = preserved.undo()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Collected(Box<Vm>);

#[derive(Debug, Default)]
struct Vm {
    session: String,
    plan: Plan,
    memories: Vec<Memfd>,
    iommufds: Vec<Iommufd>,
    hwpts: Vec<HwptId>,
    devices: Vec<VfioDevice>,
    /// The eventfds of each device's interrupts.
    eventfds: Vec<Vec<Option<OwnedFd>>>,
    state: Vec<u8>,
}

impl Collected {
    /// Nothing yet, to go into a session of this name: 1 to 63 bytes.
    pub fn new(session: &str) -> Self {
        let session = session.to_owned();
        Self(Box::new(Vm {
            session,
            ..Vm::default()
        }))
    }

    /// A memfd. One that is mapped for a device must have been sealed before it was mapped.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Taken`]; and those of duplicating a descriptor.
    pub fn memory(mut self, name: &str, memfd: impl AsFd) -> Result<Self, Error> {
        self.0.plan.add_memory(name)?;
        let object = || Object::Named(Kind::Memory, name.to_owned());
        self.0.memories.push(duplicate(memfd, object)?.into());
        Ok(self)
    }

    /// An iommufd.
    ///
    /// # Errors
    ///
    /// As [`Collected::memory`].
    pub fn iommufd(mut self, name: &str, iommufd: impl AsFd) -> Result<Self, Error> {
        self.0.plan.add_iommufd(name)?;
        let object = || Object::Named(Kind::Iommufd, name.to_owned());
        self.0.iommufds.push(duplicate(iommufd, object)?.into());
        Ok(self)
    }

    /// A HWPT of an iommufd. It was made by `IOMMU_HWPT_ALLOC`. This library marks it, with a token that it makes of the id.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Taken`]; [`Error::Unknown`] for the iommufd; [`Error::SameHwpt`].
    pub fn hwpt(mut self, name: &str, iommufd: &str, id: HwptId) -> Result<Self, Error> {
        let token = HWPT_TOKEN | u64::from(id.0);
        self.0.plan.add_hwpt(name, iommufd, token)?;
        self.0.hwpts.push(id);
        Ok(self)
    }

    /// The token of a HWPT that somebody else has marked already: it cannot be marked anew.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for the HWPT; [`Error::SameHwpt`] when another HWPT of the iommufd has the token.
    pub fn marked(mut self, hwpt: &str, token: u64) -> Result<Self, Error> {
        self.0.plan.set_token(hwpt, token)?;
        Ok(self)
    }

    /// What a HWPT maps. It can be left out, for the kernel lists it after the jump; where it is given, the two are
    /// compared.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for the HWPT or the memory, [`Error::BadMapping`].
    pub fn mapping(mut self, hwpt: &str, mapping: Mapping) -> Result<Self, Error> {
        self.0.plan.add_mapping(hwpt, mapping)?;
        Ok(self)
    }

    /// A device that is attached to a HWPT.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Taken`]; [`Error::Unknown`] for the HWPT; and those of duplicating a descriptor.
    pub fn device(mut self, name: &str, cdev: impl AsFd, hwpt: &str) -> Result<Self, Error> {
        self.0.plan.add_device(name, hwpt)?;
        let object = || Object::Named(Kind::Device, name.to_owned());
        self.0.devices.push(duplicate(cdev, object)?.into());
        self.0.eventfds.push(Vec::new());
        Ok(self)
    }

    /// The interrupts that a device has set up: the eventfd of each vector, from the first on. They are taken down when the
    /// device is preserved, and set up again when that is undone. A device without any needs no call.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for the device, [`Error::TooManyVectors`]; and those of duplicating a descriptor.
    pub fn interrupts<F: AsFd>(
        mut self,
        device: &str,
        kind: Irq,
        eventfds: &[Option<F>],
    ) -> Result<Self, Error> {
        let index = self.0.plan.set_interrupts(device, kind, eventfds.len())?;
        let object = || Object::Named(Kind::Device, device.to_owned());
        let copies = eventfds.iter().map(|eventfd| {
            let eventfd = eventfd.as_ref();
            eventfd
                .map(|eventfd| duplicate(eventfd, object))
                .transpose()
        });
        self.0.eventfds[index] = copies.collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The VMM's own state: bytes that only the VMM understands. It is given back after the jump.
    ///
    /// # Errors
    ///
    /// [`Error::StateTooLong`].
    pub fn state(mut self, state: Vec<u8>) -> Result<Self, Error> {
        if state.len() > MAX_STATE {
            return Err(Error::StateTooLong(state.len()));
        }
        self.0.state = state;
        Ok(self)
    }

    /// Puts everything into a new session. From here on no mapping can be changed.
    ///
    /// # Errors
    ///
    /// `EEXIST` when there is a session of this name, and those of [`Collected::preserve_in`].
    pub fn preserve(self, liveupdate: &LiveUpdate) -> Result<Preserved, Stuck<Self>> {
        let object = || Object::Session(self.0.session.clone());
        match liveupdate
            .create_session(&self.0.session)
            .map_err(at(Step::Preserve, object))
        {
            Ok(session) => self.preserve_in(session),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }

    /// Puts everything into a session that somebody else has created, for example a daemon that keeps `/dev/liveupdate`
    /// open. Only closing the last descriptor of the session takes everything out of it again.
    ///
    /// ```no_run
    /// # use hitless_uapi::{LiveUpdate, Session};
    /// # use hitless_vmm::{Collected, Preserved, Stuck};
    /// # fn example(vm: Collected, received: std::os::fd::OwnedFd) -> Result<Preserved, Stuck<Collected>> {
    /// // The daemon has sent the descriptor of a session that it created, and keeps its own.
    /// vm.preserve_in(Session::from(received))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`]; [`Error::Refused`] with the names of `docs/refusals.md`. Everything is as it was as soon as
    /// nobody has the session open any more.
    pub fn preserve_in(self, session: Session) -> Result<Preserved, Stuck<Self>> {
        if let Err(error) = self.check() {
            return Err(Stuck::new(error, self));
        }
        if let Err(error) = self.disarm().and_then(|()| self.put(&session)) {
            drop(session);
            let further = self.arm().err().into_iter().collect();
            return Err(Stuck {
                error,
                state: self,
                further,
            });
        }
        Ok(Preserved {
            session,
            collected: self,
        })
    }

    #[cfg(all(test, feature = "vm-memory"))]
    pub(crate) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Whether this kernel preserves devices at all.
    fn check(&self) -> Result<(), Error> {
        for (iommufd, name) in self.0.iommufds.iter().zip(&self.0.plan.iommufds) {
            let features = iommufd.features();
            let object = named(Kind::Iommufd, name);
            if !features.map_err(at(Step::Preserve, object))?.preserve() {
                return Err(Error::Unsupported);
            }
        }
        Ok(())
    }

    fn put(&self, session: &Session) -> Result<(), Error> {
        let (plan, step) = (&self.0.plan, Step::Preserve);
        for (hwpt, id) in plan.hwpts.iter().zip(&self.0.hwpts) {
            match self.0.iommufds[hwpt.iommufd].hwpt_liveupdate_mark_preserve(*id, hwpt.token) {
                // It is marked already, for an earlier session that was closed or by who said so: nobody else has this token.
                Err(error) if error.errno == Errno::ADDRINUSE => {}
                result => result.map_err(at(step, named(Kind::Hwpt, &hwpt.name)))?,
            }
        }
        let tokens = Tokens::assign(plan);
        let manifest = Manifest {
            plan: plan.clone(),
            tokens: tokens.clone(),
            state: self.0.state.clone(),
        };
        Memfd::with_content("hitless-manifest", &manifest.encode())
            .and_then(|memfd| session.preserve_fd(memfd, MANIFEST_TOKEN))
            .map_err(at(step, || Object::Manifest))?;
        Notes::create(plan)
            .and_then(|memfd| session.preserve_fd(memfd, NOTES_TOKEN))
            .map_err(at(step, || Object::Notes))?;
        // The kernel wants the memory before the iommufd, and that before its devices.
        let put = |file: BorrowedFd<'_>, token: u64, kind: Kind, name: &str| {
            let preserved = session.preserve_fd(file, token);
            preserved.map_err(at(step, named(kind, name)))
        };
        let Vm {
            memories,
            iommufds,
            devices,
            ..
        } = &*self.0;
        for ((memfd, token), name) in memories.iter().zip(tokens.memories).zip(&plan.memories) {
            put(memfd.as_fd(), token, Kind::Memory, name)?;
        }
        for ((iommufd, token), name) in iommufds.iter().zip(tokens.iommufds).zip(&plan.iommufds) {
            put(iommufd.as_fd(), token, Kind::Iommufd, name)?;
        }
        for ((device, token), about) in devices.iter().zip(tokens.devices).zip(&plan.devices) {
            put(device.as_fd(), token, Kind::Device, &about.name)?;
        }
        Ok(())
    }

    /// Takes the interrupts down.
    fn disarm(&self) -> Result<(), Error> {
        for (device, about) in self.0.devices.iter().zip(&self.0.plan.devices) {
            if let Some(interrupts) = about.interrupts {
                let down = device.set_irqs(interrupts.kind, &[]);
                down.map_err(at(Step::Preserve, named(Kind::Device, &about.name)))?;
            }
        }
        Ok(())
    }

    /// Sets the interrupts up again, of every device for which that can be done; tells the first failure.
    fn arm(&self) -> Result<(), Error> {
        let devices = self.0.devices.iter().zip(&self.0.plan.devices);
        let mut all = Ok(());
        for ((device, about), eventfds) in devices.zip(&self.0.eventfds) {
            if let Some(set) = about.interrupts {
                let armed = interrupts::arm(device, set.kind, eventfds)
                    .map_err(at(Step::Undo, named(Kind::Device, &about.name)));
                all = all.and(armed);
            }
        }
        all
    }
}

/// Everything is in the session, and the devices go on. Dropping it takes everything out of the session again, and leaves
/// interrupts down; [`Preserved::undo`] sets those up, too.
#[derive(Debug)]
pub struct Preserved {
    /// It is closed first.
    session: Session,
    collected: Collected,
}

impl Preserved {
    /// The session. Whoever has a duplicate of its descriptor keeps everything in it, also when this process ends.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Takes everything out of the session, and sets the interrupts up again. A device whose interrupts were down may have
    /// wanted to signal meanwhile, so each eventfd is signalled once. As long as somebody else has the session open,
    /// everything in it stays preserved, and a jump is refused because of the interrupts.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when an interrupt cannot be set up. Nothing is preserved any more all the same.
    pub fn undo(self) -> Result<Collected, Stuck<Collected>> {
        let Self { session, collected } = self;
        drop(session);
        match collected.arm() {
            Ok(()) => Ok(collected),
            Err(error) => Err(Stuck::new(error, collected)),
        }
    }

    /// Jumps into the kernel that is loaded. It returns only when that is refused; everything stays as it was, and it can
    /// be tried again, for example with another kernel. Other sessions of the machine jump, too.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Collected, Error, Preserved};
    /// # fn example(preserved: Preserved) -> Result<Collected, Error> {
    /// let refused = preserved.jump();
    /// eprintln!("the jump is called off: {refused}");
    /// Ok(preserved.undo()?)
    /// # }
    /// ```
    pub fn jump(&self) -> Error {
        let object = || Object::Session(self.collected.0.session.clone());
        at(Step::Jump, object)(kexec::jump())
    }
}

fn named(kind: Kind, name: &str) -> impl FnOnce() -> Object + use<'_> {
    move || Object::Named(kind, name.to_owned())
}

fn duplicate(file: impl AsFd, object: impl FnOnce() -> Object) -> Result<OwnedFd, Error> {
    let copy = file.as_fd().try_clone_to_owned();
    copy.map_err(|error| hitless_uapi::Error::from_io("F_DUPFD_CLOEXEC", "", &error))
        .map_err(at(Step::Collect, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file() -> File {
        tempfile::tempfile().expect("a file")
    }

    fn collected() -> Collected {
        let add = || {
            Collected::new("vm")
                .memory("ram", file())?
                .iommufd("iommu", file())?
                .hwpt("dma", "iommu", HwptId(3))?
                .device("nic", file(), "dma")
        };
        add().expect("collected")
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_name() {
        let unknown = collected().hwpt("other", "iomnu", HwptId(4));
        assert!(matches!(
            unknown,
            Err(Error::Unknown {
                kind: Kind::Iommufd,
                ..
            })
        ));
        let taken = collected().device("nic", file(), "dma");
        assert!(matches!(
            taken,
            Err(Error::Taken {
                kind: Kind::Device,
                ..
            })
        ));
        let same = collected().hwpt("other", "iommu", HwptId(3));
        assert!(matches!(same, Err(Error::SameHwpt { .. })));
        let long = collected().state(vec![0; MAX_STATE + 1]);
        assert!(matches!(long, Err(Error::StateTooLong(_))));
        let eventfd = file();
        let many = vec![Some(&eventfd); 2049];
        let many = collected().interrupts("nic", Irq::Msix, &many);
        assert!(matches!(many, Err(Error::TooManyVectors { .. })));
    }

    #[test]
    fn a_hwpt_has_a_token_of_its_id_or_the_one_that_it_was_given() {
        let token = |collected: &Collected| collected.0.plan.hwpts[0].token;
        let own = collected();
        assert_eq!(token(&own), HWPT_TOKEN | 3);
        assert_eq!(token(&own.marked("dma", 9).expect("free")), 9);
    }

    #[test]
    fn what_cannot_be_preserved_is_given_back_as_it_was() {
        // A session that is none: the first call on an iommufd that is none fails before it.
        let session = Session::from(OwnedFd::from(file()));
        let stuck = collected().preserve_in(session).expect_err("no iommufd");
        assert_eq!(stuck.error.errno(), Some(Errno::NOTTY));
        let words = stuck.to_string();
        assert!(
            words.starts_with("preserving iommufd `iommu`: IOMMU_OPTION"),
            "{words}"
        );
        let again = stuck.state.memory("more", file()).expect("it can go on");
        assert_eq!(again.0.plan.memories, ["ram", "more"]);
    }

    #[test]
    fn interrupts_of_none_are_none() {
        let none: [Option<File>; 0] = [];
        let collected = collected()
            .interrupts("nic", Irq::Msi, &none)
            .expect("none");
        assert_eq!(collected.0.plan.devices[0].interrupts, None);
    }
}
