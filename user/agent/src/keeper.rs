// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All VMs that the agent has, by name, and what can be done with each.
//!
//! Whatever waits for a QEMU is done by a thread of its own, so that everything else can go on; what became of it is asked
//! for with [`Keeper::list`].

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hitless_uapi::LiveUpdate;

use crate::manifest::Manifest;
use crate::qemu::target::{Target, SOCKETS};
use crate::refusal::{Error, Refusal, Result};
use crate::socket::Owner;
use crate::vm::{Coming, Held, Left, Vm};

/// Begins the name of each session, so that it is known whose it is.
const PREFIX: &str = "hitlessd-";
/// Bytes of a VM's name.
const MAX_NAME: usize = 48;
/// VMs at a time.
const MAX_VMS: usize = 1024;

/// What has happened to a VM so far.
#[derive(Debug)]
enum Place {
    /// Nothing: its QEMU has not given it yet.
    Waiting,
    /// Its QEMU was waited for in vain, or what it gave was refused.
    Failed,
    /// It is here.
    Given(Box<Vm>),
    /// It is in an outgoing session.
    Held(Box<Held>),
    /// It is in an incoming session.
    Coming(Box<Coming>),
    /// A new QEMU is being given it.
    HandingOn,
    /// A new QEMU has it.
    HandedOn,
    /// A call is at work on it.
    Taken,
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Given(_) => "given",
            Self::Held(_) => "held",
            Self::Coming(_) => "coming",
            Self::HandingOn => "handing on",
            Self::HandedOn => "handed on",
            Self::Taken => "busy",
        }
    }

    fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Given(vm) => Some(vm.manifest()),
            Self::Held(vm) => Some(vm.manifest()),
            Self::Coming(vm) => Some(vm.manifest()),
            _ => None,
        }
    }
}

/// A VM of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What has happened to it so far.
    pub place: &'static str,
    /// The machine with its version, where it is known.
    pub machine: Option<String>,
    /// Its VFIO devices, where they are known.
    pub devices: Vec<String>,
    /// What went wrong last.
    pub trouble: Option<String>,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    trouble: Option<String>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Until a QEMU connects, or listens.
    pub wait: Duration,
    /// For all that comes on one channel.
    pub patience: Duration,
}

/// All VMs. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Keeper {
    folder: PathBuf,
    times: Times,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

impl Keeper {
    /// Keeps a folder for each VM in this one, which exists.
    pub fn new(folder: &Path, times: Times) -> Self {
        Self {
            folder: folder.to_owned(),
            times,
            slots: Arc::default(),
        }
    }

    /// What there is.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |(name, slot): (&String, &Slot)| {
            let manifest = slot.place.manifest();
            let devices = manifest.map_or(&[][..], |manifest| manifest.state().devices());
            Listed {
                name: name.clone(),
                place: slot.place.name(),
                machine: manifest.map(|manifest| manifest.stream().machine().to_string()),
                devices: devices
                    .iter()
                    .map(|device| device.name.to_string())
                    .collect(),
                trouble: slot.trouble.clone(),
            }
        };
        self.slots().iter().map(listed).collect()
    }

    /// Makes the folder of a VM for its owner, and waits there for the QEMU that gives it.
    ///
    /// # Errors
    ///
    /// [`Refusal::VmName`], [`Refusal::NotNow`] when there is such a VM, and those of the folder and its sockets.
    pub fn expect(&self, name: &str, owner: Owner) -> Result<()> {
        let folder = self.folder_of(name)?;
        let mut slots = self.slots();
        match slots.get(name).map(|slot| &slot.place) {
            None | Some(Place::Failed | Place::HandedOn) => {}
            Some(place) => return Err(not_now(place, "be expected")),
        }
        if slots.len() >= MAX_VMS {
            return Err(Refusal::TooMany {
                what: "VMs",
                limit: MAX_VMS,
            }
            .into());
        }
        keep_folder(&folder)?;
        let target = Target::listen(&folder)?;
        for socket in SOCKETS {
            // Whoever can reach it in this folder may connect; who that is, is asked then.
            let all = Permissions::from_mode(0o666);
            fs::set_permissions(folder.join(socket), all).map_err(Error::io("chmod"))?;
        }
        give_folder(&folder, owner)?;
        slots.insert(
            name.to_owned(),
            Slot {
                place: Place::Waiting,
                trouble: None,
            },
        );
        drop(slots);
        let named = name;
        let (keeper, name, times) = (self.clone(), name.to_owned(), self.times);
        let waits = thread::Builder::new().spawn(move || {
            let given = target.receive(|peer| peer.owner() == owner, times.wait, times.patience);
            match given {
                Ok(given) => keeper.put(&name, Place::Given(Box::new(given.into())), None),
                Err(error) => keeper.put(&name, Place::Failed, Some(&error)),
            }
        });
        waits.map(drop).map_err(|error| {
            let error = Error::io("clone")(error);
            self.put(named, Place::Failed, Some(&error));
            error
        })
    }

    /// Puts a VM into a session, which goes through the jump as long as this process lives.
    ///
    /// # Errors
    ///
    /// As [`Vm::hold`]. The VM is still given.
    pub fn hold(&self, name: &str) -> Result<()> {
        let vm = self.take(name, "be held", |place| match place {
            Place::Given(vm) => Ok(vm),
            other => Err(other),
        })?;
        let held = match LiveUpdate::open() {
            Ok(liveupdate) => vm.hold(&format!("{PREFIX}{name}"), &liveupdate),
            Err(error) => Err(Left {
                error: error.into(),
                vm: *vm,
            }),
        };
        self.settle(name, held.map(|held| Place::Held(Box::new(held))), |vm| {
            Place::Given(Box::new(vm))
        })
    }

    /// Takes a VM out of its session again.
    ///
    /// # Errors
    ///
    /// As [`Held::give_back`]. The VM is given all the same.
    pub fn give_back(&self, name: &str) -> Result<()> {
        let held = self.take(name, "be given back", |place| match place {
            Place::Held(held) => Ok(held),
            other => Err(other),
        })?;
        let given = |vm| Place::Given(Box::new(vm));
        self.settle(name, held.give_back().map(given), given)
    }

    /// Takes a VM over from the kernel before.
    ///
    /// # Errors
    ///
    /// As [`Coming::find`] and [`Coming::go_on`]. Where the session was found, this can be called again.
    pub fn retrieve(&self, name: &str) -> Result<()> {
        self.find(name, "be retrieved")?;
        let coming = self.take(name, "be retrieved", |place| match place {
            Place::Coming(coming) => Ok(coming),
            other => Err(other),
        })?;
        // So that the new QEMU can be started before or after the VM is handed on.
        let folder = self.folder_of(name)?;
        let opened = open_folder(&folder, coming.manifest().owner());
        let given = coming.go_on().map(|vm| Place::Given(Box::new(vm)));
        if let Err(error) = opened {
            // It is tried again when the VM is handed on.
            eprintln!("hitlessd: the folder of {name}: {error}");
        }
        self.settle(name, given, |coming| Place::Coming(Box::new(coming)))
    }

    /// Gives a VM up: its devices stop, and everything of it is free.
    ///
    /// # Errors
    ///
    /// As [`Coming::find`] and [`Coming::abandon`]. [`Refusal::NotNow`] while a call is at work on it.
    pub fn abandon(&self, name: &str) -> Result<()> {
        self.find(name, "be given up")?;
        let place = self.take(name, "be given up", |place| match place {
            Place::Given(_) | Place::Held(_) | Place::Coming(_) => Ok(place),
            other => Err(other),
        })?;
        let gone = match place {
            Place::Coming(coming) => coming.abandon().map(|()| Place::Failed),
            // A session that is closed before the jump keeps nothing, and files that are closed keep no device.
            given_or_held => {
                drop(given_or_held);
                Ok(Place::Failed)
            }
        };
        self.settle(name, gone, |coming| Place::Coming(Box::new(coming)))
    }

    /// Hands a VM to the QEMU that listens, or will listen, in its folder.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotNow`], [`Refusal::NoVm`]. What happens later is in the list: the VM is given again if that QEMU fails.
    pub fn hand_on(&self, name: &str) -> Result<()> {
        let folder = self.folder_of(name)?;
        let vm = self.take(name, "be handed on", |place| match place {
            Place::Given(vm) => Ok(vm),
            other => Err(other),
        })?;
        if let Err(error) = open_folder(&folder, vm.manifest().owner()) {
            self.put(name, Place::Given(vm), Some(&error));
            return Err(error);
        }
        let named = name;
        let (keeper, name, times) = (self.clone(), name.to_owned(), self.times);
        // The VM goes to the thread when there is one: it would be lost with one that cannot be made.
        let (give, given) = mpsc::channel::<Box<Vm>>();
        let hands_on = thread::Builder::new().spawn(move || {
            let Ok(mut vm) = given.recv() else {
                return;
            };
            match vm.hand_on(&folder, times.wait, times.patience) {
                // The descriptors are closed with the VM: the new QEMU has its own.
                Ok(_) => keeper.put(&name, Place::HandedOn, None),
                Err(error) => keeper.put(&name, Place::Given(vm), Some(&error)),
            }
        });
        if let Err(error) = hands_on {
            let error = Error::io("clone")(error);
            self.put(named, Place::Given(vm), Some(&error));
            return Err(error);
        }
        self.put(named, Place::HandingOn, None);
        if let Err(mpsc::SendError(vm)) = give.send(vm) {
            self.put(named, Place::Given(vm), None);
        }
        Ok(())
    }

    /// Finds the session of a VM that is not here, if the kernel before has left one.
    fn find(&self, name: &str, wanted: &'static str) -> Result<()> {
        let session = format!("{PREFIX}{name}");
        self.folder_of(name)?;
        let mut slots = self.slots();
        match slots.get(name).map(|slot| &slot.place) {
            Some(Place::Given(_) | Place::Held(_) | Place::Coming(_)) => Ok(()),
            None | Some(Place::Failed | Place::HandedOn) => {
                let found = Coming::find(&LiveUpdate::open()?, &session)?;
                let slot = Slot {
                    place: Place::Coming(Box::new(found)),
                    trouble: None,
                };
                slots.insert(name.to_owned(), slot);
                Ok(())
            }
            Some(place @ (Place::Waiting | Place::HandingOn | Place::Taken)) => {
                Err(not_now(place, wanted))
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        // No VM is half changed while the lock is held, so it is as good after a panic.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a VM out of its slot if it is in the right place.
    fn take<T>(
        &self,
        name: &str,
        wanted: &'static str,
        right: impl FnOnce(Place) -> std::result::Result<T, Place>,
    ) -> Result<T> {
        let mut slots = self.slots();
        let slot = slots.get_mut(name).ok_or(Refusal::NoVm)?;
        match right(std::mem::replace(&mut slot.place, Place::Taken)) {
            Ok(vm) => Ok(vm),
            Err(place) => {
                let error = not_now(&place, wanted);
                slot.place = place;
                Err(error)
            }
        }
    }

    /// Puts a VM into its slot, wherever a step has left it.
    fn settle<S>(
        &self,
        name: &str,
        step: std::result::Result<Place, Left<S>>,
        left: impl FnOnce(S) -> Place,
    ) -> Result<()> {
        match step {
            Ok(place) => {
                self.put(name, place, None);
                Ok(())
            }
            Err(Left { error, vm }) => {
                self.put(name, left(vm), Some(&error));
                Err(error)
            }
        }
    }

    fn put(&self, name: &str, place: Place, trouble: Option<&Error>) {
        let trouble = trouble.map(ToString::to_string);
        self.slots()
            .insert(name.to_owned(), Slot { place, trouble });
    }

    /// The folder of a VM, whose name cannot lead anywhere else.
    fn folder_of(&self, name: &str) -> Result<PathBuf> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(good) {
            return Err(Refusal::VmName.into());
        }
        Ok(self.folder.join(name))
    }
}

/// Makes a folder in which nobody but this process's user can do anything. While that is so, its sockets are made: somebody
/// else could put a link to another file in their place.
fn keep_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("mkdir")(error));
        }
        _ => {}
    }
    let me = [
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ];
    let [uid, gid] = me;
    give_folder(folder, Owner { uid, gid })?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(Error::io("chmod"))
}

/// Makes a folder for its owner, unless it is there already.
fn open_folder(folder: &Path, owner: Owner) -> Result<()> {
    if fs::metadata(folder).is_ok_and(|there| there.uid() == owner.uid && there.gid() == owner.gid)
    {
        return Ok(());
    }
    keep_folder(folder).and_then(|()| give_folder(folder, owner))
}

/// Lets its owner, who has to make sockets there as well, into a folder.
fn give_folder(folder: &Path, owner: Owner) -> Result<()> {
    std::os::unix::fs::chown(folder, Some(owner.uid), Some(owner.gid)).map_err(Error::io("chown"))
}

fn not_now(place: &Place, wanted: &'static str) -> Error {
    Refusal::NotNow {
        is: place.name(),
        wanted,
    }
    .into()
}

#[cfg(test)]
mod tests;
