// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real descriptors, and states that do not go with them.

use std::fs::File;

use rustix::event::EventfdFlags;
use rustix::fs::MemfdFlags;

use super::*;
use crate::qemu::golden::NIC;
use crate::qemu::state::{Device, Ids, Name};

#[test]
fn the_system_says_what_a_descriptor_is() {
    let memfd = rustix::fs::memfd_create("x", MemfdFlags::empty()).expect("a memfd");
    assert_eq!(Kind::of(memfd).expect("a kind"), Kind::Memory);
    let eventfd = rustix::event::eventfd(0, EventfdFlags::empty()).expect("an eventfd");
    assert_eq!(Kind::of(eventfd).expect("a kind"), Kind::Eventfd);
    let null = File::open("/dev/null").expect("null");
    assert_eq!(
        Kind::of(null).expect("a kind"),
        Kind::Other("/dev/null".to_owned())
    );
}

/// What the descriptors of the golden state are.
fn kinds(state: &State) -> Vec<Kind> {
    let kind = |entry: &Entry| match entry.name.as_str() {
        "0000:01:00.0" => Kind::Device,
        "iommufd" => Kind::Iommufd,
        name if name.starts_with("0000:01:00.0_") => Kind::Eventfd,
        _ => Kind::Memory,
    };
    state.entries().iter().map(kind).collect()
}

#[test]
fn each_descriptor_of_a_card_finds_its_place() {
    let state = State::parse(NIC).expect("a state");
    let parts = Parts::of(&state, &kinds(&state)).expect("parts");
    assert_eq!(parts.memory, [0, 4, 6, 8, 10, 11]);
    assert_eq!(parts.iommufd, Some(15));
    let [device] = &parts.devices[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(device.file, 7);
    assert_eq!(device.interrupts.len(), 8);
    // Vectors 0, 1 and 2 are triggered by KVM's.
    assert_eq!(device.triggers(), [Some(14), Some(3), Some(1)]);
}

/// The golden state with some entries left out, and some of other names and kinds put in.
fn changed(without: &[&str], with: &[(&str, i32, Kind)]) -> Result<Parts, Refusal> {
    let golden = State::parse(NIC).expect("a state");
    let all = golden.entries().iter().cloned().zip(kinds(&golden));
    let (mut entries, mut kinds): (Vec<_>, Vec<_>) = all
        .filter(|(entry, _)| !without.contains(&entry.name.as_str()))
        .unzip();
    for (name, id, kind) in with {
        let name = Name::new(name.as_bytes()).expect("a name");
        entries.push(Entry { name, id: *id });
        kinds.push(kind.clone());
    }
    let state = State::new(entries, golden.devices().to_vec()).expect("a state");
    Parts::of(&state, &kinds)
}

#[test]
fn a_vector_that_qemu_handles_itself_is_triggered_by_its_own_eventfd() {
    let kvm = ["0000:01:00.0_kvm_interrupt"];
    let one = [("0000:01:00.0_kvm_interrupt", 2, Kind::Eventfd)];
    let parts = changed(&kvm, &one).expect("parts");
    assert_eq!(parts.devices[0].triggers(), [Some(1), Some(11), Some(13)]);
    let both = ["0000:01:00.0_kvm_interrupt", "0000:01:00.0_interrupt"];
    let parts = changed(&both, &one).expect("parts");
    assert_eq!(parts.devices[0].triggers(), [None, None, Some(10)]);
    let none = changed(&both, &[]).expect("parts");
    assert_eq!(none.devices[0].triggers(), []);
}

#[test]
fn what_does_not_go_together_is_refused_by_its_name() {
    let other = || Kind::Other("/dev/net/tun".to_owned());
    let device = ["0000:01:00.0"];
    let memory = [
        "/rom@etc/acpi/rsdp",
        "/rom@etc/acpi/tables",
        "/rom@etc/table-loader",
        "system.flash0",
        "pc.rom",
        "ram",
    ];
    type Case<'a> = (&'a [&'a str], Vec<(&'a str, i32, Kind)>, &'a str);
    let cases: [Case<'_>; 12] = [
        (
            &[],
            vec![("tap0", 0, other())],
            "\"tap0\" is \"/dev/net/tun\"",
        ),
        (
            &[],
            vec![("more", 1, Kind::Memory)],
            "\"more\" with number 1 is memory",
        ),
        (
            &[],
            vec![("x_interrupt", 0, Kind::Eventfd)],
            "\"x_interrupt\" with number 0 is an eventfd",
        ),
        (
            &[],
            vec![("0000:01:00.0_other", 0, Kind::Eventfd)],
            "_other\" with number 0 is an eventfd",
        ),
        (
            &[],
            vec![("0000:01:00.0_interrupt", 2048, Kind::Eventfd)],
            "number 2048",
        ),
        (
            &[],
            vec![("0000:01:00.0_interrupt", -1, Kind::Eventfd)],
            "number -1",
        ),
        (
            &[],
            vec![("0000:01:00.0_err_notifier", 1, Kind::Eventfd)],
            "number 1",
        ),
        (
            &[],
            vec![("0000:01:00.0_intx-unmask", 0, Kind::Eventfd)],
            "\"0000:01:00.0\" uses its interrupt pin",
        ),
        (
            &device,
            vec![],
            "\"0000:01:00.0\" came without its device file",
        ),
        (
            &[],
            vec![("nic1", 0, Kind::Device)],
            "\"nic1\" came without its ids",
        ),
        (&["iommufd"], vec![], "no iommufd"),
        (&[], vec![("iommufd1", 0, Kind::Iommufd)], "2 iommufds"),
    ];
    for (without, with, words) in cases {
        let refusal = changed(without, &with).unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal:?} lacks {words:?}");
    }
    assert_eq!(changed(&memory, &[]), Err(Refusal::NoMemory));
}

#[test]
fn an_iommufd_that_no_device_uses_is_refused() {
    let name = |name: &str| Name::new(name.as_bytes()).expect("a name");
    let entries = ["i", "m"].map(|each| Entry {
        name: name(each),
        id: 0,
    });
    let state = State::new(entries.to_vec(), Vec::new()).expect("a state");
    let refusal = Parts::of(&state, &[Kind::Iommufd, Kind::Memory]).unwrap_err();
    assert_eq!(refusal, Refusal::IdleIommufd);
}

#[test]
fn names_without_descriptors_are_refused() {
    let state = State::parse(NIC).expect("a state");
    let refusal = Parts::of(&state, &kinds(&state)[1..]).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::DescriptorCount {
            named: 16,
            sent: 15
        }
    );
}

#[test]
fn a_device_whose_name_ends_like_an_eventfds_is_told_from_it() {
    let name = |name: &str| Name::new(name.as_bytes()).expect("a name");
    let ids = Ids {
        device: 1,
        ioas: 2,
        hwpt: 3,
    };
    let devices = ["a", "a_kvm"].map(|each| Device {
        name: name(each),
        ids,
    });
    let all = [
        ("a", Kind::Device),
        ("a_kvm", Kind::Device),
        ("a_kvm_interrupt", Kind::Eventfd),
        ("i", Kind::Iommufd),
        ("m", Kind::Memory),
    ];
    let entries = all.iter().map(|(each, _)| Entry {
        name: name(each),
        id: 0,
    });
    let state = State::new(entries.collect(), devices.to_vec()).expect("a state");
    let parts = Parts::of(&state, &all.map(|(_, kind)| kind)).expect("parts");
    // QEMU itself could not tell either: the longer name of a device wins.
    assert_eq!(parts.devices[0].interrupts, []);
    assert_eq!(parts.devices[1].triggers(), [Some(2)]);
}
