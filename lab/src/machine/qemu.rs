// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a profile to QEMU's flags: the only file that knows them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::machine::parts::Parts;
use crate::machine::profile::Profile;
use crate::machine::program::Program;
use crate::machine::topology::{Bridge, ROOT};

/// Trace events that the judge reads, and one that helps to understand a failure, beside those of the IOMMU.
const TRACE_EVENTS: [&str; 4] = [
    "pci_cfg_write",
    "e1000x_rx_can_recv_disabled",
    "e1000e_core_ctrl_sw_reset",
    "e1000e_core_ctrl_phy_reset",
];

/// Events that this QEMU does not have, by what it says on its standard error: without them the judge would see nothing
/// and find nothing wrong.
pub fn missing_events(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| line.split_once("trace event '")?.1.split_once('\''))
        .filter(|(_, rest)| rest.contains("does not exist") || rest.contains("is not traceable"))
        .map(|(name, _)| name)
        .collect()
}

/// Names of the sockets and files of a machine, below the directories given to [`flags`].
pub mod names {
    /// Socket: the kernel's console.
    pub const CONSOLE: &str = "console";
    /// Socket: orders and reports.
    pub const CONTROL: &str = "control";
    /// Socket: QEMU's machine protocol.
    pub const MONITOR: &str = "monitor";
    /// File: QEMU's trace.
    pub const TRACE: &str = "qemu-trace.log";

    /// Socket: what a card's wire is connected to.
    pub fn net(card: u8) -> String {
        format!("net{card}")
    }
}

/// The flags of a machine. `sockets` holds sockets on which the lab listens already; `logs` gets
/// QEMU's trace. With `terminal` the console is QEMU's own standard input and output.
pub fn flags(
    profile: &Profile,
    parts: &Parts,
    command_line: &str,
    sockets: &Path,
    logs: &Path,
    terminal: bool,
) -> Vec<OsString> {
    let mut flags: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: OsString| {
        flags.push(flag.into());
        if !value.is_empty() {
            flags.push(value);
        }
    };
    let with_path = |prefix: &str, path: &Path| {
        let mut text = OsString::from(prefix);
        text.push(path);
        text
    };
    let memory = profile.machine.memory_mib;

    for alone in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        add(alone, OsString::new());
    }
    add("-display", "none".into());
    add(
        "-machine",
        "q35,kernel-irqchip=split,memory-backend=ram".into(),
    );
    // With a thread per processor QEMU 10 now and then dies or hangs while the memory map changes: a processor's
    // translation cache is flushed by a thread that does not own it. One thread is no slower on two host cores.
    add("-accel", "tcg,thread=single".into());
    // Without a fast byte-wise copy the kernel moves words, of which the emulation needs an eighth as many.
    add("-cpu", "max,-erms,-fsrm".into());
    add("-smp", profile.machine.processors.to_string().into());
    add("-m", format!("{memory}M").into());
    add(
        "-object",
        format!("memory-backend-memfd,id=ram,size={memory}M,share=on").into(),
    );
    add("-kernel", parts.kernel.clone().into());
    add("-initrd", parts.initramfs.clone().into());
    add("-append", command_line.into());

    if terminal {
        add("-chardev", "stdio,id=console,signal=off".into());
    }
    for name in [names::CONSOLE, names::CONTROL, names::MONITOR] {
        if !(terminal && name == names::CONSOLE) {
            add(
                "-chardev",
                with_path(&format!("socket,id={name},path="), &sockets.join(name)),
            );
        }
    }
    add("-serial", format!("chardev:{}", names::CONSOLE).into());
    add("-serial", format!("chardev:{}", names::CONTROL).into());
    add(
        "-mon",
        format!("chardev={},mode=control", names::MONITOR).into(),
    );

    for device in devices(profile, &parts.qemu) {
        add("-device", device.into());
    }
    for card in &profile.cards {
        let number = card.number;
        add(
            "-netdev",
            with_path(
                &format!("stream,id=net{number},server=off,addr.type=unix,addr.path="),
                &sockets.join(names::net(number)),
            ),
        );
    }

    add("-D", logs.join(names::TRACE).into());
    add("-msg", "timestamp=on".into());
    for event in profile
        .iommu
        .kind
        .trace_events()
        .iter()
        .chain(&TRACE_EVENTS)
    {
        add("-trace", event.into());
    }
    flags
}

/// The values of `-device`: the IOMMU, then bridges, each after the one that it is on, then cards.
fn devices(profile: &Profile, qemu: &Program) -> Vec<String> {
    let mut iommu = profile.iommu.kind.device().to_owned();
    for (property, value) in &profile.iommu.properties {
        let name = qemu.spelling(property).unwrap_or(property);
        iommu.push_str(&format!(",{name}={value}"));
    }
    let mut devices = vec![iommu];
    let several = |on: &str, slot: u8| {
        let bridges = profile
            .bridges
            .iter()
            .map(|one| (&one.on, one.slot, one.function));
        let cards = profile
            .functions
            .iter()
            .map(|one| (&one.on, one.slot, one.function));
        bridges
            .chain(cards)
            .any(|(other, at, function)| other == on && at == slot && function > 0)
    };
    let place = |on: &str, slot: u8, function: u8| {
        let more = match function == 0 && several(on, slot) {
            true => ",multifunction=on",
            false => "",
        };
        format!(",bus={on},addr={slot:#x}.{function}{more}")
    };
    let options = |options: &BTreeMap<String, String>| -> String {
        let pairs = options.iter();
        pairs
            .map(|(name, value)| format!(",{name}={value}"))
            .collect()
    };
    for bridge in in_order(&profile.bridges) {
        let Bridge { name, kind, .. } = bridge;
        let mut text = format!("{},id={name}", kind.device());
        text.push_str(&place(&bridge.on, bridge.slot, bridge.function));
        if let Some(chassis) = bridge.chassis {
            text.push_str(&format!(",chassis={chassis}"));
        }
        if let Some(number) = bridge.bus_nr {
            text.push_str(&format!(",bus_nr={number}"));
        }
        devices.push(text + &options(&bridge.options));
    }
    for (card, function) in profile.cards.iter().zip(&profile.functions) {
        devices.push(format!(
            "{},id={}{},netdev=net{},mac={},romfile={}",
            card.kind.device(),
            card.name,
            place(&function.on, function.slot, function.function),
            card.number,
            card.mac(),
            options(&function.options)
        ));
    }
    if let Some(crowd) = &profile.crowd {
        let (kind, options) = (crowd.kind.device(), options(&crowd.options));
        let ports = crowd.ports();
        devices.extend(ports.map(|port| format!("{kind},bus={}{options}", port.name)));
    }
    devices
}

/// Bridges in such an order that what one is on comes before it.
fn in_order(bridges: &[Bridge]) -> Vec<&Bridge> {
    let mut sorted: Vec<&Bridge> = Vec::new();
    while let Some(next) = bridges.iter().find(|bridge| {
        let there = |name: &str| sorted.iter().any(|done| done.name == name);
        !there(&bridge.name) && (bridge.on == ROOT || there(&bridge.on))
    }) {
        sorted.push(next);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kernel::config::Config;
    use crate::machine::program::recorded::{program, NEW, OLD};

    fn text(profile: &Profile, list: &str) -> Vec<String> {
        let parts = Parts {
            qemu: program(list),
            kernel: "k".into(),
            initramfs: "i".into(),
            config: Config::Hitless,
        };
        let (sockets, logs) = (Path::new("/s"), Path::new("/l"));
        flags(profile, &parts, "console=ttyS0", sockets, logs, false)
            .iter()
            .map(|flag| flag.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_profile_decides_the_iommu_and_the_size() {
        let mut profile = Profile::load("scalable-first-stage").expect("built in");
        profile.machine.memory_mib = 1234;
        for (list, iommu) in [
            (OLD, "intel-iommu,x-flts=on,intremap=on,x-scalable-mode=on"),
            (NEW, "intel-iommu,fsts=on,intremap=on,scalable-mode=on"),
        ] {
            let text = text(&profile, list);
            for flag in [
                iommu,
                "memory-backend-memfd,id=ram,size=1234M,share=on",
                "socket,id=console,path=/s/console",
                "pcie-root-port,id=port1,bus=pcie.0,addr=0x2.0,chassis=1",
                "igb,id=second,bus=port2,addr=0x0.0,netdev=net2,mac=52:54:00:48:4c:02,romfile=",
            ] {
                assert!(text.iter().any(|other| other == flag), "{flag}: {text:#?}");
            }
        }
    }

    #[test]
    fn bridges_come_after_what_they_are_on_and_functions_are_told() {
        let profile = Profile::load("legacy-functions").expect("built in");
        let text = devices(&profile, &program(OLD)).join("\n");
        assert!(
            text.contains("addr=0x4.0,multifunction=on,chassis=1"),
            "{text}"
        );
        assert!(text.contains("addr=0x4.3,chassis=2"), "{text}");
        let mut profile = Profile::load("legacy-switch").expect("built in");
        profile.bridges.reverse();
        let names: Vec<_> = in_order(&profile.bridges)
            .iter()
            .map(|bridge| bridge.name.as_str())
            .collect();
        assert_eq!(names, ["port2", "switch", "down2", "down1", "port1"]);
    }

    #[test]
    fn events_that_qemu_does_not_have_are_named() {
        let said = "qemu-system-x86_64: -trace x: warning: trace event 'x' does not exist\n\
                    qemu-system-x86_64: warning: something else\n";
        assert_eq!(missing_events(said), ["x"]);
        assert_eq!(missing_events(""), [""; 0]);
    }
}
