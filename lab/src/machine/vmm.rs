// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The QEMU inside a machine, and its flags: what a user would give it, and what makes it hand a virtual machine over.

use serde_json::{json, Value};

use crate::build::initramfs::COUNTER;
use crate::build::sources::vmm::{FIRMWARE_FOLDER, LIBRARY_FOLDER, LOADER_FILE, PROGRAM_FILE};
use crate::machine::profile::Vm;

/// The machine's disk, its file system, and where it is mounted.
pub const DISK: [&str; 3] = ["/dev/vda", "ext2", "/vmm"];
const BIOS: &str = "bios-256k.bin";
/// What the virtual machine's kernel is told. It has no use for handover, and its clock is the host's.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 no_timer_check panic=-1 kho=off";

/// A program in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub program: String,
    /// What it is told.
    pub arguments: Vec<String>,
}

/// The most descriptors that an igb has to receive with.
pub const MOST_DESCRIPTORS: u32 = 4096;

/// Where QEMU has the virtual machine's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// In flash, which no device maps.
    Flash,
    /// In memory that is mapped for the card, and cannot be sealed: what QEMU does by itself.
    Memory,
}

/// What is chosen for a virtual machine.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Descriptors of its ring: it has to hold what comes while the virtual machine stands still.
    pub ring: u32,
    /// Where its firmware is.
    pub firmware: Firmware,
}

/// The two sockets by which a virtual machine goes from one QEMU to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// For the stream.
    pub main: String,
    /// For descriptors.
    pub cpr: String,
}

impl Channels {
    /// The commands by which a QEMU hands its virtual machine to whoever waits there. The last one begins it.
    pub fn hand_over(&self) -> [Value; 2] {
        let channels = [self.main(), self.cpr()];
        [
            command("migrate-set-parameters", json!({"mode": "cpr-transfer"})),
            command("migrate", json!({"channels": channels})),
        ]
    }

    fn main(&self) -> Value {
        channel("main", &self.main)
    }

    fn cpr(&self) -> Value {
        channel("cpr", &self.cpr)
    }
}

/// A QEMU in the machine, by the name that its files have.
#[derive(Clone, Debug)]
pub struct Vmm {
    /// Of its process and its files.
    pub name: String,
}

impl Vmm {
    /// One of this name, a word.
    pub fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self { name }
    }

    fn file(&self, kind: &str) -> String {
        format!("/tmp/{}.{kind}", self.name)
    }

    /// The virtual machine's console.
    pub fn console(&self) -> String {
        self.file("console")
    }

    /// What QEMU itself says.
    pub fn said(&self) -> String {
        self.file("said")
    }

    /// The socket of its monitor.
    pub fn monitor(&self) -> String {
        self.file("monitor")
    }

    /// Sockets on which it can wait for another QEMU.
    pub fn channels(&self) -> Channels {
        let [main, cpr] = ["main", "cpr"].map(|kind| self.file(kind));
        Channels { main, cpr }
    }

    /// How it is started: with the function passed through to a virtual machine that boots, or that comes by the channels.
    pub fn start(&self, vm: Vm, bdf: &str, choice: Choice, from: Option<&Channels>) -> Program {
        let [_, _, folder] = DISK;
        let memory = vm.memory_mib;
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
        let library = format!("{folder}/{LIBRARY_FOLDER}");
        add(&["--library-path", &library]);
        add(&[&format!("{folder}/{PROGRAM_FILE}")]);
        let firmware = format!("{folder}/{FIRMWARE_FOLDER}");
        add(&["-L", &firmware, "-nodefaults", "-no-user-config"]);
        add(&["-no-reboot", "-display", "none", "-vga", "none"]);
        let machine = "q35,accel=kvm,smm=off,memory-backend=ram,aux-ram-share=on";
        add(&["-machine", machine]);
        match choice.firmware {
            Firmware::Flash => {
                let flash =
                    "driver=raw,node-name=fw,read-only=on,file.driver=file,file.read-only=on";
                let flash = format!("{flash},file.filename={firmware}/{BIOS}");
                add(&["-machine", "pflash0=fw", "-blockdev", &flash]);
            }
            Firmware::Memory => add(&["-bios", BIOS]),
        }
        add(&["-cpu", "host,migratable=on", "-smp", "1"]);
        add(&["-m", &format!("{memory}M")]);
        let ram = format!("memory-backend-memfd,id=ram,size={memory}M,share=on,seal=on");
        add(&["-object", &ram, "-object", "iommufd,id=iommufd"]);
        let card = format!("vfio-pci,host={bdf},iommufd=iommufd,id=card,rombar=0");
        add(&["-device", &card]);
        add(&["-kernel", "/boot/gen1", "-initrd", &format!("/{COUNTER}")]);
        add(&["-append", &format!("{COMMAND_LINE} ring={}", choice.ring)]);
        let console = format!("file,id=console,append=on,path={}", self.console());
        add(&["-chardev", &console, "-serial", "chardev:console"]);
        let monitor = format!("unix:{},server=on,wait=off", self.monitor());
        add(&["-qmp", &monitor]);
        if let Some(channels) = from {
            add(&["-incoming", &format!("unix:{}", channels.main)]);
            add(&["-incoming", &channels.cpr().to_string()]);
        }
        Program {
            program: format!("{folder}/{LOADER_FILE}"),
            arguments,
        }
    }
}

/// A command for a monitor.
pub fn command(execute: &str, arguments: Value) -> Value {
    json!({"execute": execute, "arguments": arguments})
}

fn channel(kind: &str, path: &str) -> Value {
    json!({
        "channel-type": kind,
        "addr": {"transport": "socket", "type": "unix", "path": path},
    })
}

#[test]
fn an_incoming_vmm_differs_by_where_it_waits() {
    let vm = Vm { memory_mib: 192 };
    let vmm = Vmm::named("a");
    let channels = vmm.channels();
    let start = |firmware, from| {
        let ring = 256;
        vmm.start(vm, "0000:01:00.0", Choice { ring, firmware }, from)
    };
    let plain = start(Firmware::Flash, None);
    let mut incoming = start(Firmware::Flash, Some(&channels));
    for flag in [
        "memory-backend-memfd,id=ram,size=192M,share=on,seal=on",
        "vfio-pci,host=0000:01:00.0,iommufd=iommufd,id=card,rombar=0",
        "/boot/counter.cpio",
    ] {
        assert!(plain.arguments.iter().any(|other| other == flag), "{flag}");
    }
    let more = incoming.arguments.split_off(plain.arguments.len());
    assert_eq!(plain, incoming);
    assert_eq!(more[..2], ["-incoming", "unix:/tmp/a.main"]);
    let handed = channels.hand_over();
    let channels = &handed[1]["arguments"]["channels"];
    assert_eq!(channels[1].to_string(), more[3]);
    let says_flash = |program: &Program| program.arguments.iter().any(|word| word == "pflash0=fw");
    assert!(says_flash(&plain) && !says_flash(&start(Firmware::Memory, None)));
}
