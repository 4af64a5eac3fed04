// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a profile to QEMU's flags: the only file that knows them.

use std::ffi::OsString;
use std::path::Path;

use crate::machine::parts::Parts;
use crate::machine::profile::Profile;
use crate::machine::program::Program;
use crate::machine::topology::Device;

/// Trace events that the judge reads, and one that helps to understand a failure, beside those of the IOMMU.
const TRACE_EVENTS: [&str; 4] = [
    "pci_cfg_write",
    "e1000x_rx_can_recv_disabled",
    "e1000e_core_ctrl_sw_reset",
    "e1000e_core_ctrl_phy_reset",
];

/// QEMU's trace, among the logs.
pub const TRACE: &str = "qemu-trace.log";

/// The descriptor that is the console's socket in QEMU. After it come the control port's, the monitor's, and one for the
/// wire of each card.
pub const FIRST_SOCKET: i32 = 10;
/// The slot of the root that a disk is in: a profile leaves it free.
const DISK_SLOT: u8 = 6;
/// How many of them there are before the first card's.
pub const PORTS: usize = 3;

/// Events that this QEMU does not have, by what it says on its standard error: without them the judge would see nothing
/// and find nothing wrong.
pub fn missing_events(stderr: &str) -> Vec<&str> {
    let events = stderr
        .lines()
        .filter_map(|line| line.split_once("trace event '")?.1.split_once('\''));
    events
        .filter(|(_, rest)| rest.contains("does not exist") || rest.contains("is not traceable"))
        .map(|(name, _)| name)
        .collect()
}

/// The flags of a machine; `logs` gets QEMU's trace. With `terminal` the console is QEMU's own standard input and output,
/// and nothing else is connected; otherwise QEMU inherits the sockets that begin with [`FIRST_SOCKET`].
pub fn flags(
    profile: &Profile,
    parts: &Parts,
    command_line: &str,
    logs: &Path,
    terminal: bool,
) -> Vec<OsString> {
    let memory = profile.machine.memory_mib;
    let mut flags: Vec<OsString> = Vec::new();
    flags.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    let mut add = |flag: &str, value: OsString| flags.extend([flag.into(), value]);
    for (flag, value) in [
        ("-display", "none".into()),
        (
            "-machine",
            "q35,kernel-irqchip=split,memory-backend=ram".into(),
        ),
        // With a thread per processor QEMU 10 now and then dies or hangs while the memory map changes: a processor's
        // translation cache is flushed by a thread that does not own it. One thread is no slower on two host cores.
        ("-accel", "tcg,thread=single".into()),
        // Without a fast byte-wise copy the kernel moves words, of which the emulation needs an eighth as many.
        ("-cpu", "max,-erms,-fsrm".into()),
        ("-smp", profile.machine.processors.to_string()),
        ("-m", format!("{memory}M")),
        (
            "-object",
            format!("memory-backend-memfd,id=ram,size={memory}M,share=on"),
        ),
        ("-append", command_line.to_owned()),
        ("-msg", "timestamp=on".into()),
    ] {
        add(flag, value.into());
    }
    add("-kernel", parts.kernel.clone().into());
    add("-initrd", parts.initramfs.clone().into());
    add("-D", logs.join(TRACE).into());

    let mut sockets = FIRST_SOCKET..;
    let mut socket = || sockets.next().unwrap_or_default();
    for name in ["console", "control", "monitor"] {
        let other_end = match (name, terminal) {
            (_, false) => format!("socket,id={name},fd={}", socket()),
            ("console", true) => format!("stdio,id={name},signal=off"),
            (_, true) => format!("null,id={name}"),
        };
        add("-chardev", other_end.into());
    }
    add("-serial", "chardev:console".into());
    add("-serial", "chardev:control".into());
    add("-mon", "chardev=monitor,mode=control".into());
    for card in &profile.cards {
        let number = card.number;
        let other_end = match terminal {
            true => format!("hubport,id=net{number},hubid={number}"),
            false => format!("stream,id=net{number},addr.type=fd,addr.str={}", socket()),
        };
        add("-netdev", other_end.into());
    }
    if let Some(disk) = &parts.disk {
        let mut drive = OsString::from("if=none,id=disk,format=raw,readonly=on,file=");
        drive.push(disk);
        add("-drive", drive);
        let place = format!("virtio-blk-pci,drive=disk,bus=pcie.0,addr={DISK_SLOT:#x}");
        add("-device", place.into());
    }
    for device in devices(profile, &parts.qemu) {
        add("-device", device.into());
    }
    for event in profile
        .iommu
        .kind
        .names()
        .trace_events
        .iter()
        .chain(&TRACE_EVENTS)
    {
        add("-trace", event.into());
    }
    flags
}

/// The values of `-device`: the IOMMU, then bridges, then cards and the members of a crowd.
fn devices(profile: &Profile, qemu: &Program) -> Vec<String> {
    let mut iommu = profile.iommu.kind.names().device.to_owned();
    for (property, value) in &profile.iommu.properties {
        let name = qemu.spelling(property).unwrap_or(property);
        iommu.push_str(&format!(",{name}={value}"));
    }
    let all = || profile.bridges.iter().chain(&profile.functions);
    let text = |device: &Device| {
        let Device {
            name,
            kind,
            on,
            slot,
            function,
            ..
        } = device;
        let mut text = format!("{kind},id={name},bus={on},addr={slot:#x}.{function}");
        let shares_slot =
            |other: &Device| (&other.on, other.slot) == (on, *slot) && other.function > 0;
        if *function == 0 && all().any(shares_slot) {
            text.push_str(",multifunction=on");
        }
        if let Some(chassis) = device.chassis {
            text.push_str(&format!(",chassis={chassis}"));
        }
        if let Some(card) = profile.cards.iter().find(|card| card.name == *name) {
            let (number, mac) = (card.number, card.mac());
            text.push_str(&format!(",netdev=net{number},mac={mac},romfile="));
        }
        for (name, value) in &device.options {
            text.push_str(&format!(",{name}={value}"));
        }
        text
    };
    [iommu].into_iter().chain(all().map(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kernel::config::Config;
    use crate::machine::program::recorded::{program, NEW, OLD};

    #[test]
    fn a_profile_decides_the_iommu_the_size_and_the_devices() {
        let flags = |name: &str, list| {
            let parts = Parts {
                qemu: program(list),
                kernel: "k".into(),
                initramfs: "i".into(),
                config: Config::Hitless,
                disk: Some("d".into()),
            };
            let profile = Profile::load(name).expect("built in");
            flags(&profile, &parts, "console=ttyS0", Path::new("/l"), false)
        };
        let all = [
            flags("scalable-first-stage", OLD),
            flags("scalable-first-stage", NEW),
            flags("legacy-functions", NEW),
            flags("crowd", NEW),
        ]
        .concat();
        for flag in [
            "intel-iommu,x-flts=on,intremap=on,x-scalable-mode=on",
            "intel-iommu,fsts=on,intremap=on,scalable-mode=on",
            "memory-backend-memfd,id=ram,size=768M,share=on",
            "socket,id=control,fd=11",
            "stream,id=net2,addr.type=fd,addr.str=14",
            "pcie-root-port,id=port1,bus=pcie.0,addr=0x2.0,chassis=1",
            "pcie-root-port,id=port1,bus=pcie.0,addr=0x4.0,multifunction=on,chassis=1",
            "igb,id=second,bus=port2,addr=0x0.0,netdev=net2,mac=52:54:00:48:4c:02,romfile=",
            "if=none,id=disk,format=raw,readonly=on,file=d",
            "virtio-blk-pci,drive=disk,bus=pcie.0,addr=0x6",
            "virtio-rng-pci,id=member32,bus=crowd32,addr=0x0.0,vectors=0",
        ] {
            assert!(all.iter().any(|other| other == flag), "{flag}: {all:#?}");
        }
    }

    #[test]
    fn events_that_qemu_does_not_have_are_named() {
        let said = "qemu-system-x86_64: -trace x: warning: trace event 'x' does not exist\n\
                    qemu-system-x86_64: warning: something else\n";
        assert_eq!(missing_events(said), ["x"]);
        assert_eq!(missing_events(""), [""; 0]);
    }
}
