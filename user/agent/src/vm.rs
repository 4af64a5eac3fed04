// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One VM on its way: it is *given* by its old QEMU, *held* in a session through the jump, *retrieved* in the new kernel, and
//! *handed on* to a new QEMU. On the way back it is given again.
//!
//! ```text
//! QEMU ── Target::receive ─▶ Vm ── hold ─▶ Held ══ jump ══▶ Coming ── go_on ─▶ Vm ── hand_on ─▶ QEMU
//!                             ▲              │
//!                             └── give_back ─┘ ── hand_on ─▶ QEMU on the same kernel
//! ```

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use hitless_uapi::eventfd::signal;
use hitless_uapi::iommufd::HwptId;
use hitless_uapi::vfio::Notice;
use hitless_uapi::{LiveUpdate, VfioDevice};
use hitless_vmm::incoming::{Bound, Found, Rebuilt, Retrieved, Swapped};
use hitless_vmm::{Collected, Incoming, Preserved, Running, Stuck};

use crate::interrupts::{kind, new_eventfd};
use crate::manifest::Manifest;
use crate::qemu::roles::Kind;
use crate::qemu::source::{NotTaken, Offer};
use crate::qemu::state::Ids;
use crate::qemu::target::Given;
use crate::qemu::version::Signal;
use crate::refusal::{Error, Refusal, Result};
use crate::socket::{Peer, Watch};

/// A VM that no QEMU has, and whose files are ordinary ones. Its processors stand still, and its devices run.
#[derive(Debug)]
pub struct Vm {
    manifest: Box<Manifest>,
    /// In the order of the state's entries.
    descriptors: Vec<OwnedFd>,
    /// The old QEMU, as long as it may have the same descriptors.
    giver: Option<Watch>,
    /// A new QEMU that was given it in vain, as long as it may have some of them.
    taker: Option<Watch>,
}

impl From<Given> for Vm {
    fn from(given: Given) -> Self {
        let Given {
            manifest,
            descriptors,
            giver,
            ..
        } = given;
        Self {
            manifest: Box::new(manifest),
            descriptors,
            giver: Some(giver),
            taker: None,
        }
    }
}

/// A VM that could not take a step, and why.
#[derive(Debug)]
pub struct Left<S> {
    /// Why.
    pub error: Error,
    /// The VM as it was before.
    pub vm: S,
}

impl Vm {
    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Hands it to a new QEMU, and lets every interrupt come once: what a device signalled while nobody listened is lost.
    ///
    /// # Errors
    ///
    /// As [`Offer::hand_on`], and [`Refusal::TakerLives`]. The VM can be handed to another QEMU, once that one has ended.
    pub fn hand_on(&mut self, folder: &Path, wait: Duration, patience: Duration) -> Result<Peer> {
        has_ended(self.taker.as_ref(), Refusal::TakerLives)?;
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        let offer = Offer {
            state: self.manifest.state(),
            descriptors: &descriptors,
            stream: self.manifest.stream(),
        };
        // Only who gave a VM may have it.
        let owner = self.manifest.owner();
        let taken = offer.hand_on(folder, |peer| peer.owner() == owner, wait, patience);
        let taker = taken.map_err(|NotTaken { error, taker }| {
            self.taker = taker;
            error
        })?;
        for device in &self.manifest.parts().devices {
            for entry in device.triggers().into_iter().flatten() {
                // The new QEMU runs the VM whatever becomes of this.
                let _ = signal(&self.descriptors[entry]);
            }
        }
        Ok(taker)
    }

    /// Puts it into a new session. Interrupts of its devices are off from here on.
    ///
    /// # Errors
    ///
    /// [`Refusal::GiverLives`] and [`Refusal::TakerLives`] while a QEMU that has it has not ended, and those of [`hitless_vmm`], with the VM as it was.
    pub fn hold(
        self,
        session: &str,
        liveupdate: &LiveUpdate,
    ) -> std::result::Result<Held, Left<Self>> {
        let collected = self.is_alone().and_then(|()| self.collect(session));
        let collected = match collected {
            Ok(collected) => collected,
            Err(error) => return Err(Left { error, vm: self }),
        };
        match collected.preserve(liveupdate) {
            Ok(preserved) => Ok(Held {
                preserved,
                vm: self,
            }),
            Err(stuck) => Err(Left {
                error: stuck.error.into(),
                vm: self,
            }),
        }
    }

    /// What another process has of the devices it could still change.
    fn is_alone(&self) -> Result<()> {
        has_ended(self.giver.as_ref(), Refusal::GiverLives)?;
        has_ended(self.taker.as_ref(), Refusal::TakerLives)
    }

    /// Everything by the names that QEMU gave it. A HWPT has none, so its id is its name.
    fn collect(&self, session: &str) -> Result<Collected> {
        let (state, parts) = (self.manifest.state(), self.manifest.parts());
        let name = |entry: usize| state.entries()[entry].name.as_str();
        let mut vm = Collected::new(session).state(self.manifest.encode())?;
        for &entry in &parts.memory {
            vm = vm.memory(name(entry), &self.descriptors[entry])?;
        }
        let Some(iommufd) = parts.iommufd else {
            return Ok(vm);
        };
        vm = vm.iommufd(name(iommufd), &self.descriptors[iommufd])?;
        let hwpts: BTreeSet<u32> = state.devices().iter().map(|one| one.ids.hwpt).collect();
        for hwpt in hwpts {
            vm = vm.hwpt(&hwpt.to_string(), name(iommufd), HwptId(hwpt))?;
        }
        for (device, has) in state.devices().iter().zip(&parts.devices) {
            let file = &self.descriptors[has.file];
            vm = vm.device(device.name.as_str(), file, &device.ids.hwpt.to_string())?;
            let triggers = has.triggers();
            if !triggers.is_empty() {
                let file = VfioDevice::from(duplicate(file)?);
                let kind = kind(device.name.as_str(), &file)?;
                let eventfds = triggers
                    .iter()
                    .map(|entry| entry.map(|at| &self.descriptors[at]));
                let eventfds: Vec<_> = eventfds.collect();
                vm = vm.interrupts(device.name.as_str(), kind, &eventfds)?;
            }
        }
        Ok(vm)
    }

    /// Puts a VM together anew after an update: its files are retrieved ones, its eventfds are new, and its devices have
    /// other ids.
    fn retrieved(manifest: Manifest, running: &Running) -> Result<Self> {
        let mut descriptors = Vec::new();
        let entries = manifest.state().entries().iter();
        for (entry, kind) in entries.zip(manifest.kinds()) {
            let name = entry.name.as_str();
            descriptors.push(match kind {
                Kind::Memory => duplicate(running.memory(name)?)?,
                Kind::Iommufd => duplicate(running.iommufd(name)?)?,
                Kind::Device => duplicate(running.device(name)?)?,
                Kind::Eventfd | Kind::Other(_) => new_eventfd()?,
            });
        }
        let ids = manifest.state().devices().iter().map(|device| {
            let name = device.name.as_str();
            let built = running.built(&device.ids.hwpt.to_string())?;
            let built = built.ok_or_else(|| hitless_vmm::Error::NoMappings {
                hwpt: device.ids.hwpt.to_string(),
            })?;
            Ok(Ids {
                // CAST: QEMU has the same bits with a sign.
                device: running.device_id(name)?.0 as i32,
                ioas: built.ioas.0,
                hwpt: built.hwpt.0,
            })
        });
        let ids: Result<Vec<Ids>> = ids.collect();
        let state = manifest.state().with_ids(&ids?)?;
        let vm = Self {
            manifest: Box::new(manifest.with_state(state)?),
            descriptors,
            giver: None,
            taker: None,
        };
        vm.arm(running)?;
        Ok(vm)
    }

    /// Sets up what QEMU would have set up, for it takes for granted that it is.
    fn arm(&self, running: &Running) -> Result<()> {
        let devices = self.manifest.state().devices().iter();
        for (device, has) in devices.zip(&self.manifest.parts().devices) {
            let name = device.name.as_str();
            if let Some(had) = running.interrupts(name)? {
                let triggers = has.triggers().into_iter();
                let eventfds: Vec<_> = triggers
                    .map(|entry| entry.map(|at| &self.descriptors[at]))
                    .collect();
                running.arm(name, had.kind, &eventfds)?;
            }
            for interrupt in &has.interrupts {
                let notice = match interrupt.signal {
                    Signal::Error => Notice::Error,
                    Signal::Request => Notice::Request,
                    Signal::Vector | Signal::KvmVector | Signal::Intx => continue,
                };
                let eventfd = self.descriptors[interrupt.entry].as_fd();
                running.device(name)?.set_notice(notice, Some(eventfd))?;
            }
        }
        Ok(())
    }
}

/// A VM in an outgoing session. It goes through the jump as long as this exists.
#[derive(Debug)]
pub struct Held {
    preserved: Preserved,
    vm: Vm,
}

impl Held {
    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.vm.manifest
    }

    /// Takes it out of the session again, so that a QEMU on this kernel can have it. Interrupts are on again, with the
    /// eventfds that the old QEMU had.
    ///
    /// # Errors
    ///
    /// Where interrupts could not be set up again, with the VM out of the session all the same.
    pub fn give_back(self) -> std::result::Result<Vm, Left<Vm>> {
        let Self { preserved, vm } = self;
        match preserved.undo() {
            Ok(_) => Ok(vm),
            Err(stuck) => Err(Left {
                error: stuck.error.into(),
                vm,
            }),
        }
    }
}

/// A VM in an incoming session, as far as it has come.
#[derive(Debug)]
pub struct Coming {
    manifest: Box<Manifest>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Found(Incoming<Found>),
    Retrieved(Incoming<Retrieved>),
    Bound(Incoming<Bound>),
    Rebuilt(Incoming<Rebuilt>),
    Swapped(Incoming<Swapped>),
    Finished(Running),
}

impl Coming {
    /// Finds the session of this name.
    ///
    /// # Errors
    ///
    /// Those of [`hitless_vmm`], and of [`Manifest::decode`].
    pub fn find(liveupdate: &LiveUpdate, session: &str) -> Result<Self> {
        let found = Incoming::find(liveupdate, session)?;
        let manifest = Box::new(Manifest::decode(found.state())?);
        let stage = Stage::Found(found);
        Ok(Self { manifest, stage })
    }

    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Goes all the way: the devices are swapped to what this kernel has built, and the session is finished.
    ///
    /// # Errors
    ///
    /// Where a step fails, the VM is left where it is, and this can be called again. [`Error::is_too_early`] says that
    /// vfio-pci is not bound to a device yet.
    pub fn go_on(mut self) -> std::result::Result<Vm, Left<Self>> {
        loop {
            self.stage = match self.stage {
                Stage::Finished(running) => {
                    return match Vm::retrieved(Manifest::clone(&self.manifest), &running) {
                        Ok(vm) => Ok(vm),
                        Err(error) => {
                            self.stage = Stage::Finished(running);
                            Err(Left { error, vm: self })
                        }
                    };
                }
                stage => match stage.next() {
                    Ok(stage) => stage,
                    Err(left) => {
                        let Left { error, vm: stage } = *left;
                        self.stage = stage;
                        return Err(Left { error, vm: self });
                    }
                },
            };
        }
    }
}

impl Coming {
    /// Gives the VM up: all its devices are stopped, and its session is finished, which frees its memory.
    ///
    /// # Errors
    ///
    /// Where a device cannot be stopped, with what was stopped before it stopped; this can be called again.
    pub fn abandon(mut self) -> std::result::Result<(), Left<Self>> {
        let stopped = match &mut self.stage {
            Stage::Found(vm) => stop(vm),
            Stage::Retrieved(vm) => stop(vm),
            Stage::Bound(vm) => stop(vm),
            Stage::Rebuilt(vm) => stop(vm),
            Stage::Swapped(vm) => stop(vm),
            // It is an ordinary VM again, whose devices stop when their files are closed.
            Stage::Finished(_) => Ok(()),
        };
        stopped.map_err(|error| Left { error, vm: self })
    }
}

/// Stops all devices of a VM, and finishes its session.
fn stop<S: hitless_vmm::incoming::Stage>(vm: &mut Incoming<S>) -> Result<()> {
    let names = vm.names(hitless_vmm::error::Kind::Device);
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    for name in names {
        vm.give_up(&name)?;
    }
    Ok(vm.session().finish()?)
}

impl Stage {
    fn next(self) -> std::result::Result<Self, Box<Left<Self>>> {
        fn step<S, N>(
            step: std::result::Result<N, Stuck<S>>,
            done: fn(N) -> Stage,
            left: fn(S) -> Stage,
        ) -> std::result::Result<Stage, Box<Left<Stage>>> {
            step.map(done).map_err(|stuck| {
                let (error, vm) = (stuck.error.into(), left(stuck.state));
                Box::new(Left { error, vm })
            })
        }
        match self {
            Self::Found(vm) => step(vm.retrieve(), Self::Retrieved, Self::Found),
            Self::Retrieved(vm) => step(vm.bind(), Self::Bound, Self::Retrieved),
            Self::Bound(vm) => step(vm.rebuild(), Self::Rebuilt, Self::Bound),
            Self::Rebuilt(vm) => step(vm.swap(), Self::Swapped, Self::Rebuilt),
            Self::Swapped(vm) => step(vm.finish(), Self::Finished, Self::Swapped),
            finished @ Self::Finished(_) => Ok(finished),
        }
    }
}

fn has_ended(process: Option<&Watch>, otherwise: Refusal) -> Result<()> {
    match process {
        Some(process) if !process.ends_within(Duration::ZERO)? => Err(otherwise.into()),
        _ => Ok(()),
    }
}

fn duplicate(file: impl AsFd) -> Result<OwnedFd> {
    file.as_fd()
        .try_clone_to_owned()
        .map_err(Error::io("F_DUPFD_CLOEXEC"))
}
