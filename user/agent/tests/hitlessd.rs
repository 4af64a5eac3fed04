// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program, with a QEMU that this test plays.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use hitless_agent::qemu::source::Offer;
use hitless_agent::qemu::state::State;
use hitless_agent::qemu::stream::Stream;
use hitless_agent::qemu::target::Target;
use rustix::fs::MemfdFlags;

const PLAIN: &[u8] = include_bytes!("../testdata/qemu-11.1/plain.cpr");
const PLAIN_MAIN: &[u8] = include_bytes!("../testdata/qemu-11.1/plain.main.gz");
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent, which is killed when this is dropped.
struct Agent {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hitlessd(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hitlessd"));
    command.arg("--dir").arg(folder);
    command
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let child = hitlessd(folder.path())
            .args(["serve", "--wait", "20"])
            .spawn();
        let agent = Self {
            child: child.expect("hitlessd to start"),
            folder,
        };
        let end = Instant::now() + PATIENCE;
        while !agent.ask(&["list"]).status.success() {
            assert!(Instant::now() < end, "hitlessd does not answer");
            thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    fn ask(&self, words: &[&str]) -> Output {
        let answer = hitlessd(self.folder.path()).args(words).output();
        answer.expect("hitlessd to run")
    }

    /// What it says to a call that succeeds.
    fn does(&self, words: &[&str]) -> String {
        let answer = self.ask(words);
        let trouble = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{words:?}: {trouble}");
        String::from_utf8(answer.stdout).expect("words")
    }

    /// What it says to a call that fails.
    fn refuses(&self, words: &[&str]) -> String {
        let answer = self.ask(words);
        assert!(!answer.status.success(), "{words:?}");
        String::from_utf8(answer.stderr).expect("words")
    }
}

/// Does what an old QEMU does.
fn give(folder: &Path) {
    let mut bytes = Vec::new();
    GzDecoder::new(PLAIN_MAIN)
        .read_to_end(&mut bytes)
        .expect("a stream");
    let memfd = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).expect("a memfd");
    let offer = Offer {
        state: &State::parse(PLAIN).expect("a state"),
        descriptors: &[memfd.as_fd(); 6],
        stream: &Stream::new(bytes).expect("a stream"),
    };
    offer
        .hand_on(folder, |_| true, PATIENCE, PATIENCE)
        .expect("to give it");
}

#[test]
fn a_vm_goes_through_the_program() {
    let agent = Agent::start();
    assert_eq!(agent.does(&["list"]), "");
    agent.does(&["expect", "vm-1"]);
    assert_eq!(agent.does(&["list"]), "vm-1\twaiting\t-\t\t-\n");
    let folder = agent.folder.path().join("vm-1");
    give(&folder);
    let given = "vm-1\tgiven\tpc-q35-11.1\t\t-\n";
    assert_eq!(agent.does(&["await", "vm-1", "given"]), given);
    // This process, which gave it, still lives.
    let why = agent.refuses(&["hold", "vm-1"]);
    assert!(why.starts_with("hitlessd: "), "{why}");
    let target = Target::listen(&folder).expect("to listen");
    agent.does(&["hand-on", "vm-1"]);
    let vm = target.receive(|_| true, PATIENCE, PATIENCE).expect("a VM");
    assert_eq!(vm.manifest.state().encode().bytes, PLAIN);
    let handed_on = "vm-1\thanded on\t-\t\t-\n";
    assert_eq!(agent.does(&["await", "vm-1", "handed on"]), handed_on);
}

#[test]
fn only_its_own_user_reaches_its_sockets() {
    let agent = Agent::start();
    agent.does(&["expect", "vm"]);
    let mode = |name: &str| {
        let path = agent.folder.path().join(name);
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o711);
    assert_eq!(mode("control.sock") & 0o077, 0);
    assert_eq!(mode("vm"), 0o700);
}

#[test]
fn what_goes_wrong_is_told() {
    let agent = Agent::start();
    let why = agent.refuses(&["hand-on", "vm"]);
    assert!(why.contains("there is no VM of this name"), "{why}");
    let why = agent.refuses(&["expect", "../vm"]);
    assert!(why.contains("1 to 48 letters"), "{why}");
    let why = agent.refuses(&["await", "vm", "given"]);
    assert!(why.contains("there is no VM vm"), "{why}");
    let mut second = hitlessd(agent.folder.path());
    let second = second.arg("serve").output().expect("hitlessd to run");
    let why = String::from_utf8_lossy(&second.stderr);
    assert!(why.contains("another hitlessd has"), "{why}");
}
