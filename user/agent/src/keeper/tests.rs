// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way of a VM without a session, between a source and a target of this process.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::MemfdFlags;

use super::*;
use crate::qemu::golden::{plain_main, PLAIN};
use crate::qemu::source::Offer;
use crate::qemu::state::State;
use crate::qemu::stream::Stream;

const TIMES: Times = Times {
    wait: Duration::from_secs(10),
    patience: Duration::from_secs(10),
};

fn me() -> Owner {
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

/// A keeper with a folder of its own.
fn keeper() -> (tempfile::TempDir, Keeper) {
    let folder = tempfile::tempdir().expect("a folder");
    let keeper = Keeper::new(folder.path(), TIMES);
    (folder, keeper)
}

/// Does what an old QEMU does.
fn give(folder: &Path) -> Result<()> {
    let state = State::parse(PLAIN).expect("a state");
    let stream = Stream::new(plain_main()).expect("a stream");
    let memfd = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).expect("a memfd");
    let offer = Offer {
        state: &state,
        descriptors: &[memfd.as_fd(); 6],
        stream: &stream,
    };
    offer
        .hand_on(folder, |_| true, TIMES.wait, TIMES.patience)
        .map(drop)
        .map_err(|failed| failed.error)
}

/// The VM, once it is at this place.
fn once(keeper: &Keeper, place: &str) -> Listed {
    let end = Instant::now() + TIMES.wait;
    loop {
        let [vm] = &keeper.list()[..] else {
            panic!("not one VM")
        };
        if vm.place == place {
            return vm.clone();
        }
        assert!(Instant::now() < end, "{vm:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_vm_is_given_and_handed_on() {
    let (folder, keeper) = keeper();
    keeper.expect("vm-1", me()).expect("to expect it");
    assert_eq!(once(&keeper, "waiting").machine, None);
    let folder = folder.path().join("vm-1");
    give(&folder).expect("to give it");
    let vm = once(&keeper, "given");
    assert_eq!(vm.machine.as_deref(), Some("pc-q35-11.1"));
    assert_eq!((vm.devices, vm.trouble), (vec![], None));
    let target = Target::listen(&folder).expect("to listen");
    keeper.hand_on("vm-1").expect("to hand it on");
    let given = target
        .receive(|_| true, TIMES.wait, TIMES.patience)
        .expect("a VM");
    assert_eq!(given.manifest.state().encode().bytes, PLAIN);
    once(&keeper, "handed on");
    // The name is free again.
    keeper.expect("vm-1", me()).expect("to expect it");
}

#[test]
fn a_vm_that_nobody_takes_is_still_given() {
    let (folder, mut keeper) = keeper();
    keeper.expect("vm", me()).expect("to expect it");
    give(&folder.path().join("vm")).expect("to give it");
    once(&keeper, "given");
    keeper.times.wait = Duration::from_millis(50);
    keeper.hand_on("vm").expect("to begin");
    once(&keeper, "handing on");
    let vm = once(&keeper, "given");
    assert_eq!(
        vm.trouble.as_deref(),
        Some("refused: the new QEMU's start took too long")
    );
}

#[test]
fn a_vm_is_not_held_while_its_qemu_lives_or_there_is_no_live_update() {
    let (folder, keeper) = keeper();
    keeper.expect("vm", me()).expect("to expect it");
    give(&folder.path().join("vm")).expect("to give it");
    once(&keeper, "given");
    // The giver is this process.
    let error = keeper.hold("vm").unwrap_err().to_string();
    let known = error.contains("has not ended yet") || error.contains("/dev/liveupdate");
    assert!(known, "{error}");
    assert_eq!(once(&keeper, "given").trouble, Some(error));
}

#[test]
fn a_vm_that_was_given_up_can_be_expected_again() {
    let (folder, keeper) = keeper();
    keeper.expect("vm", me()).expect("to expect it");
    give(&folder.path().join("vm")).expect("to give it");
    once(&keeper, "given");
    keeper.abandon("vm").expect("to give it up");
    assert_eq!(once(&keeper, "failed").trouble, None);
    // There is no session of this name either, if this kernel has any.
    assert!(keeper.abandon("vm").is_err());
    keeper.expect("vm", me()).expect("to expect it");
    let waiting = keeper.abandon("vm").unwrap_err().to_string();
    assert_eq!(
        waiting,
        "refused: this VM is waiting, so it cannot be given up"
    );
}

#[test]
fn what_is_asked_for_at_the_wrong_time_is_refused() {
    let (_folder, keeper) = keeper();
    for ask in [Keeper::hold, Keeper::give_back, Keeper::hand_on] {
        assert!(ask(&keeper, "vm")
            .unwrap_err()
            .to_string()
            .contains("no VM of this name"));
    }
    keeper.expect("vm", me()).expect("to expect it");
    let words = |error: Result<()>| error.unwrap_err().to_string();
    assert_eq!(
        words(keeper.hold("vm")),
        "refused: this VM is waiting, so it cannot be held"
    );
    assert_eq!(
        words(keeper.give_back("vm")),
        "refused: this VM is waiting, so it cannot be given back"
    );
    assert_eq!(
        words(keeper.hand_on("vm")),
        "refused: this VM is waiting, so it cannot be handed on"
    );
    assert_eq!(
        words(keeper.retrieve("vm")),
        "refused: this VM is waiting, so it cannot be retrieved"
    );
    assert_eq!(
        words(keeper.expect("vm", me())),
        "refused: this VM is waiting, so it cannot be expected"
    );
    once(&keeper, "waiting");
}

#[test]
fn a_name_leads_nowhere_else() {
    let (_folder, keeper) = keeper();
    for name in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(49)] {
        for error in [keeper.expect(name, me()), keeper.retrieve(name)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("1 to 48 letters"), "{error}");
        }
    }
    assert_eq!(keeper.list(), []);
}

#[test]
fn somebody_elses_vm_is_refused() {
    let (folder, keeper) = keeper();
    let Owner { uid, gid } = me();
    let other = Owner { uid, gid: gid + 1 };
    if keeper.expect("vm", other).is_err() {
        // Only root can give folders away.
        return;
    }
    give(&folder.path().join("vm")).unwrap_err();
    let trouble = once(&keeper, "failed").trouble.expect("trouble");
    assert!(trouble.contains("may not give a VM"), "{trouble}");
}
