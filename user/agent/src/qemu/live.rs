// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real QEMUs on this machine, without a guest and without a device. `HITLESS_AGENT_QEMU` names the program; `cargo lab test
//! agent::` runs these tests where it finds one.
//!
//! With `HITLESS_AGENT_RECORD` a folder is named into which the first test writes what QEMU sends.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use process::Qemu;

use super::state::{Entry, State};
use super::target::{Given, Target};
use crate::refusal::{Error, Refusal, Result};
use crate::socket::Peer;
use crate::vm::Vm;

mod process;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the tests leave a word in the VM's memory, and the word.
const PLACE: u64 = 0x10_0000;
const WORD: u32 = 0x6869_746c;

/// Lets a QEMU give its VM, and says what became of it, and how QEMU calls its migration.
fn give(qemu: &mut Qemu, may_give: fn(Peer) -> bool) -> (Result<Given>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::listen(folder.path()).expect("to listen");
    thread::scope(|scope| {
        let target = scope.spawn(|| target.receive(may_give, PATIENCE, PATIENCE));
        qemu.migrate(folder.path());
        let given = target.join().expect("no panic");
        (given, qemu.end_of_migration())
    })
}

fn hand_on(vm: &mut Vm, folder: &Path) -> Result<Peer> {
    vm.hand_on(folder, PATIENCE, PATIENCE)
}

/// What there is, in any order.
fn names(state: &State) -> BTreeSet<Entry> {
    state.entries().iter().cloned().collect()
}

/// Writes the word into the VM's memory, as whoever has its memory file can.
fn leave_word(given: &Given) {
    let is_memory = |entry: &Entry| entry.name.as_str() == "ram0";
    let at = given.manifest.state().entries().iter().position(is_memory);
    let file = &given.descriptors[at.expect("the VM's memory")];
    rustix::io::pwrite(file, &WORD.to_le_bytes(), PLACE).expect("to write");
}

#[test]
#[ignore = "needs QEMU 10.1 or newer: HITLESS_AGENT_QEMU names it"]
fn live_vm_goes_from_qemu_to_qemu_and_on() {
    let mut old = Qemu::start("16M", None);
    let (given, end) = give(&mut old, |_| true);
    let given = given.expect("a VM");
    assert_eq!(end, "completed");
    if let Some(folder) = env::var_os("HITLESS_AGENT_RECORD") {
        let folder = Path::new(&folder);
        fs::write(
            folder.join("plain.cpr"),
            given.manifest.state().encode().bytes,
        )
        .expect("to write");
        fs::write(folder.join("plain.main"), given.manifest.stream().bytes()).expect("to write");
    }
    assert!(given
        .manifest
        .stream()
        .machine()
        .as_str()
        .starts_with("pc-q35-"));
    assert_eq!(given.manifest.state().entries().len(), 6);
    assert_eq!(given.peer.pid, old.pid());
    leave_word(&given);
    drop(old);
    let before = names(given.manifest.state());
    let mut vm = Vm::from(given);
    // Twice, so that what came from a QEMU that was itself handed a VM is seen, too.
    for _ in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut new = Qemu::start("16M", Some(folder.path()));
        let taker = hand_on(&mut vm, folder.path()).expect("to hand it on");
        assert_eq!(taker.pid, new.pid());
        new.connect();
        assert_eq!(new.word_at(PLACE), WORD);
        assert_eq!(new.status(), "prelaunch");
        let (again, end) = give(&mut new, |_| true);
        let again = again.expect("a VM");
        assert_eq!(end, "completed");
        assert_eq!(names(again.manifest.state()), before);
        vm = again.into();
    }
}

#[test]
#[ignore = "needs QEMU 10.1 or newer: HITLESS_AGENT_QEMU names it"]
fn live_vm_that_is_refused_goes_on_where_it_was() {
    let mut qemu = Qemu::start("16M", None);
    let (given, end) = give(&mut qemu, |_| false);
    assert!(given.is_err());
    assert_eq!(end, "failed");
    qemu.go_on();
    assert_eq!(qemu.status(), "running");
}

#[test]
#[ignore = "needs QEMU 10.1 or newer: HITLESS_AGENT_QEMU names it"]
fn live_vm_is_still_there_when_its_next_qemu_fails() {
    let mut old = Qemu::start("16M", None);
    let (given, _) = give(&mut old, |_| true);
    let given = given.expect("a VM");
    leave_word(&given);
    let mut vm = Vm::from(given);
    drop(old);
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = Qemu::start("32M", Some(folder.path()));
    let error = hand_on(&mut vm, folder.path()).unwrap_err();
    assert!(
        matches!(error, Error::Refused(Refusal::SuccessorEnded)),
        "{error}"
    );
    drop(wrong);
    let folder = tempfile::tempdir().expect("a folder");
    let mut new = Qemu::start("16M", Some(folder.path()));
    hand_on(&mut vm, folder.path()).expect("to hand it on");
    new.connect();
    assert_eq!(new.word_at(PLACE), WORD);
    new.go_on();
    assert_eq!(new.status(), "running");
}
