// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A QEMU for tests: its command line, and a few commands of its monitor.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::Pid;
use serde_json::{json, Value};

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A QEMU, which is killed when this is dropped.
pub(super) struct Qemu {
    child: Child,
    folder: tempfile::TempDir,
    monitor: Option<BufReader<UnixStream>>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// Starts one that does not run its VM; it waits for one if there is a folder from which it comes.
    pub(super) fn start(memory: &str, from: Option<&Path>) -> Self {
        let program = env::var_os("HITLESS_AGENT_QEMU").expect("HITLESS_AGENT_QEMU names a QEMU");
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().display();
        let firmware = File::create(folder.path().join("firmware")).expect("a file");
        firmware.set_len(1 << 16).expect("a length");
        let mut command = Command::new(program);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-S"])
            .args(["-accel", "tcg", "-m", memory])
            .args(["-machine", "q35,smm=off,memory-backend=ram0,aux-ram-share=on,pflash0=fw"])
            .args(["-object", &format!("memory-backend-memfd,id=ram0,size={memory},share=on,seal=on")])
            .args(["-blockdev", &format!("driver=raw,node-name=fw,read-only=on,file.driver=file,file.filename={here}/firmware,file.read-only=on")])
            .args(["-qmp", &format!("unix:{here}/qmp.sock,server=on,wait=off")])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(from) = from {
            let from = from.display();
            let cpr = json!({
                "channel-type": "cpr",
                "addr": {"transport": "socket", "type": "unix", "path": format!("{from}/cpr.sock")},
            });
            command
                .args(["-incoming", &format!("unix:{from}/main.sock")])
                .args(["-incoming", &cpr.to_string()])
                // What it complains about is what the test wants.
                .stderr(Stdio::null());
        }
        let child = command.spawn().expect("QEMU to start");
        let mut qemu = Self {
            child,
            folder,
            monitor: None,
        };
        // One that waits for a VM does not answer before it has it.
        if from.is_none() {
            qemu.connect();
        }
        qemu
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Connects to the monitor.
    pub(super) fn connect(&mut self) {
        let path = self.folder.path().join("qmp.sock");
        let end = Instant::now() + PATIENCE;
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("QEMU's monitor: {error}"),
            }
        };
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        self.monitor = Some(BufReader::new(socket));
        self.line();
        self.call("qmp_capabilities", json!({}));
    }

    fn line(&mut self) -> Value {
        let monitor = self.monitor.as_mut().expect("a monitor");
        let mut line = String::new();
        monitor.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn call(&mut self, command: &str, arguments: Value) -> Value {
        let monitor = self.monitor.as_mut().expect("a monitor");
        let call = json!({"execute": command, "arguments": arguments});
        writeln!(monitor.get_mut(), "{call}").expect("to ask");
        loop {
            let answer = self.line();
            if let Some(value) = answer.get("return") {
                return value.clone();
            }
            assert!(answer.get("event").is_some(), "{command}: {answer}");
        }
    }

    /// Tells it to hand its VM to who listens in this folder.
    pub(super) fn migrate(&mut self, to: &Path) {
        let channel = |kind: &str| {
            json!({
                "channel-type": kind,
                "addr": {"transport": "socket", "type": "unix", "path": to.join(format!("{kind}.sock"))},
            })
        };
        self.call("migrate-set-parameters", json!({"mode": "cpr-transfer"}));
        self.call(
            "migrate",
            json!({"channels": [channel("main"), channel("cpr")]}),
        );
    }

    /// How the migration has ended.
    pub(super) fn end_of_migration(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.call("query-migrate", json!({}))["status"].clone();
            match status.as_str() {
                Some(status @ ("completed" | "failed")) => return status.to_owned(),
                _ => assert!(Instant::now() < end, "the migration is {status}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the VM runs.
    pub(super) fn status(&mut self) -> String {
        let status = self.call("query-status", json!({}))["status"].clone();
        status.as_str().expect("a status").to_owned()
    }

    pub(super) fn go_on(&mut self) {
        self.call("cont", json!({}));
    }

    /// A word of the VM's memory.
    pub(super) fn word_at(&mut self, place: u64) -> u32 {
        let line = format!("xp /1xw {place:#x}");
        let answer = self.call("human-monitor-command", json!({"command-line": line}));
        let answer = answer.as_str().expect("a string").trim().to_owned();
        let (_, word) = answer.split_once(": 0x").expect("a word");
        u32::from_str_radix(word, 16).expect("a number")
    }
}
