// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a profile to QEMU's flags: the only file that knows them.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::run::parts::Parts;
use crate::run::profile::Profile;

/// Where a card is and what it is called, everywhere in the lab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// The card's number in its frames, from 1.
    pub(crate) card: u8,
    /// The function's address as the guest names it.
    pub(crate) bdf: &'static str,
    /// Bus, device and function in one number: what the IOMMU calls the source id.
    pub(crate) source_id: u16,
    /// The same of the root port above it.
    pub(crate) port_source_id: u16,
}

/// The two cards of every machine, each behind a root port of its own.
pub(crate) const SLOTS: [Slot; 2] = [
    Slot {
        card: 1,
        bdf: "0000:01:00.0",
        source_id: 0x0100,
        port_source_id: 0x0010,
    },
    Slot {
        card: 2,
        bdf: "0000:02:00.0",
        source_id: 0x0200,
        port_source_id: 0x0018,
    },
];

/// Offset of the PCI Express capability's Device Control in QEMU's igb; bit 15 starts a function level reset.
pub(crate) const IGB_DEVICE_CONTROL: u32 = 0xa8;
/// Offset of the power management Control/Status in QEMU's igb; bits 1:0 are the power state.
pub(crate) const IGB_POWER_CONTROL: u32 = 0x44;
/// Where q35 has its VT-d unit's registers.
pub(crate) const VTD_REGISTERS: u64 = 0xfed9_0000;

/// Trace events that the judge reads, and some that help to understand a failure.
pub(crate) const TRACE_EVENTS: [&str; 10] = [
    "vtd_dmar_fault",
    "vtd_fault_disabled",
    "vtd_dmar_enable",
    "vtd_reg_write_gcmd",
    "vtd_reg_dmar_root",
    "vtd_ir_enable",
    "pci_cfg_write",
    "e1000x_rx_can_recv_disabled",
    "e1000e_core_ctrl_sw_reset",
    "e1000e_core_ctrl_phy_reset",
];

/// Events that this QEMU does not have, by what it says on its standard error: without them the judge would see nothing
/// and find nothing wrong.
pub(crate) fn missing_events(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| line.split_once("trace event '")?.1.split_once('\''))
        .filter(|(_, rest)| rest.contains("does not exist") || rest.contains("is not traceable"))
        .map(|(name, _)| name)
        .collect()
}

/// Names of the sockets and files of a machine, below the directories given to [`flags`].
pub(crate) mod names {
    /// Socket: the kernel's console.
    pub(crate) const CONSOLE: &str = "console";
    /// Socket: orders and reports.
    pub(crate) const CONTROL: &str = "control";
    /// Socket: QEMU's machine protocol.
    pub(crate) const MONITOR: &str = "monitor";
    /// File: the machine's memory.
    pub(crate) const RAM: &str = "ram";
    /// File: QEMU's trace.
    pub(crate) const TRACE: &str = "qemu-trace.log";

    /// Socket: what a card's wire is connected to.
    pub(crate) fn net(card: u8) -> String {
        format!("net{card}")
    }
}

/// The flags of a machine. `sockets` holds sockets on which the lab listens already and the memory; `logs` gets
/// QEMU's trace. With `terminal` the console is QEMU's own standard input and output.
pub(crate) fn flags(
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
        with_path(
            &format!("memory-backend-file,id=ram,size={memory}M,share=on,mem-path="),
            &sockets.join(names::RAM),
        ),
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

    let mut iommu = String::from("intel-iommu");
    for (property, value) in &profile.iommu {
        iommu.push_str(&format!(",{property}={value}"));
    }
    add("-device", iommu.into());
    for slot in SLOTS {
        let card = slot.card;
        let device = slot.port_source_id >> 3;
        add(
            "-device",
            format!("pcie-root-port,id=port{card},chassis={card},bus=pcie.0,addr={device:#x}")
                .into(),
        );
        add(
            "-netdev",
            with_path(
                &format!("stream,id=net{card},server=off,addr.type=unix,addr.path="),
                &sockets.join(names::net(card)),
            ),
        );
        add(
            "-device",
            format!("igb,id=card{card},bus=port{card},netdev=net{card},mac=52:54:00:48:4c:{card:02x},romfile=")
                .into(),
        );
    }

    add("-D", logs.join(names::TRACE).into());
    add("-msg", "timestamp=on".into());
    for event in TRACE_EVENTS {
        add("-trace", event.into());
    }
    flags
}

/// A property of the profile's IOMMU that this QEMU does not know.
///
/// # Errors
///
/// QEMU can not be asked.
pub(crate) fn missing_property(profile: &Profile, qemu: &Path) -> Result<Option<String>> {
    let output = Command::new(qemu)
        .args(["-device", "intel-iommu,help"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can not be started", qemu.display()))?;
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(unknown(profile, &known))
}

/// The first property that is not in QEMU's list, whose lines are such as `  intremap=<OnOffAuto> - ...`.
fn unknown(profile: &Profile, list: &str) -> Option<String> {
    let is_known = |property: &str| {
        list.lines()
            .filter_map(|line| line.trim_start().split_once('='))
            .any(|(name, _)| name == property)
    };
    profile
        .iommu
        .keys()
        .find(|property| !is_known(property))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_decides_the_iommu_and_the_size() {
        let mut profile = Profile::load("scalable-first-stage").expect("built in");
        profile.machine.memory_mib = 1234;
        let parts = Parts {
            qemu: "q".into(),
            kernel: "k".into(),
            initramfs: "i".into(),
            config: crate::artifacts::Config::Hitless,
        };
        let flags = flags(
            &profile,
            &parts,
            "console=ttyS0",
            Path::new("/s"),
            Path::new("/l"),
            false,
        );
        let text: Vec<_> = flags
            .iter()
            .map(|flag| flag.to_string_lossy().into_owned())
            .collect();
        assert!(text.contains(&"intel-iommu,intremap=on,x-flts=on,x-scalable-mode=on".to_owned()));
        assert!(text.contains(
            &"memory-backend-file,id=ram,size=1234M,share=on,mem-path=/s/ram".to_owned()
        ));
        assert!(text.contains(&"socket,id=console,path=/s/console".to_owned()));
    }

    #[test]
    fn a_property_that_qemu_does_not_know_is_named() {
        let profile = Profile::load("scalable-first-stage").expect("built in");
        let list = "intel-iommu options:\n  intremap=<OnOffAuto> - x\n  x-scalable-mode=<bool>\n";
        assert_eq!(unknown(&profile, list).as_deref(), Some("x-flts"));
        let list = format!("{list}  x-flts=<bool>\n");
        assert_eq!(unknown(&profile, &list), None);
    }

    #[test]
    fn events_that_qemu_does_not_have_are_named() {
        let said = "qemu-system-x86_64: -trace x: warning: trace event 'x' does not exist\n\
                    qemu-system-x86_64: warning: something else\n";
        assert_eq!(missing_events(said), ["x"]);
        assert_eq!(missing_events(""), [""; 0]);
    }

    #[test]
    fn the_slots_say_one_thing_in_two_ways() {
        for slot in SLOTS {
            let bdf: hitless_proto::Bdf = slot.bdf.parse().expect("an address");
            assert_eq!(bdf.number(), u32::from(slot.source_id));
        }
    }
}
