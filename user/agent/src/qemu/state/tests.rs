// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Golden bytes, everything that is refused, and random states.

use proptest::prelude::*;

use super::*;
use crate::qemu::golden::{NIC, PLAIN};

fn entry(name: &str, id: i32) -> Entry {
    Entry {
        name: Name::new(name.as_bytes()).expect("a name"),
        id,
    }
}

/// The bytes, with `new` in place of those from `at` on.
fn patched(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn a_recorded_state_is_read_and_written_as_it_was() {
    let state = State::parse(PLAIN).expect("a state");
    let names = [
        "/rom@etc/acpi/rsdp",
        "/rom@etc/acpi/tables",
        "/rom@etc/table-loader",
        "system.flash0",
        "pc.rom",
        "ram0",
    ];
    assert_eq!(state.entries(), names.map(|name| entry(name, 0)));
    assert_eq!(state.devices(), []);
    let encoded = state.encode();
    assert_eq!(encoded.bytes, PLAIN);
    // Where QEMU 11.1.3 ended its messages, as recvmsg(2) saw it.
    assert_eq!(encoded.marks, [36, 67, 99, 123, 140, 155]);
}

#[test]
fn a_state_with_a_card_has_its_ids_rewritten_and_nothing_else() {
    let state = State::parse(NIC).expect("a state");
    assert_eq!(state.entries().len(), 16);
    assert_eq!(state.entries()[1], entry("0000:01:00.0_kvm_interrupt", 2));
    let [device] = state.devices() else {
        panic!("{state:?}")
    };
    let old = Ids {
        device: 1,
        ioas: 2,
        hwpt: 3,
    };
    assert_eq!((device.name.as_str(), device.ids), ("0000:01:00.0", old));
    assert_eq!(state.encode().bytes, NIC);
    let new = Ids {
        device: 2,
        ioas: 3,
        hwpt: 0x0102_0304,
    };
    let bytes = state.with_ids(&[new]).expect("as many").encode().bytes;
    let ids = NIC.len() - 13;
    let wanted = patched(NIC, ids, &[0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4]);
    assert_eq!(bytes, wanted);
    let refusal = state.with_ids(&[]).unwrap_err();
    assert_eq!(refusal, Refusal::IdCount { new: 0, devices: 1 });
}

#[test]
fn a_state_that_ends_early_is_refused_wherever_it_ends() {
    for length in 0..NIC.len() {
        let refusal = State::parse(&NIC[..length]).unwrap_err();
        let known = matches!(
            refusal,
            Refusal::NotCprState | Refusal::CprEnds(_) | Refusal::CprWithoutDevices
        );
        assert!(known, "{length}: {refusal}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_its_name() {
    let parts = NIC.len() - 58;
    let cases = [
        (patched(NIC, 0, b"QEVM"), "not the state of a QEMU"),
        (patched(NIC, 7, &[2]), "version 2,"),
        (patched(NIC, 8, &[7]), "0x07 where a descriptor is expected"),
        (patched(NIC, 9, &[1]), "is too long"),
        (patched(NIC, 13, b"\n"), "is not printable"),
        (patched(NIC, 12, &[0]), "is empty"),
        (patched(NIC, parts, &[4]), "0x04 where a part is expected"),
        (patched(NIC, parts + 2, b"X"), "\"XprState/vfio devices\""),
        (patched(NIC, parts + 26, &[3]), "version 3"),
        (
            [NIC, b"\x05\x03abc\0\0\0\x01"].concat(),
            "a part \"abc\", which is not known",
        ),
        ([NIC, b"\0\0"].concat(), "2 bytes follow"),
        (NIC[..parts].to_vec(), "older than 10.1"),
    ];
    for (bytes, words) in cases {
        let refusal = State::parse(&bytes).unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal:?} lacks {words:?}");
    }
}

#[test]
fn what_is_there_twice_or_too_often_is_refused() {
    let twice = vec![entry("a", 1), entry("a", 2), entry("a", 1)];
    assert_eq!(
        State::new(twice, Vec::new()).unwrap_err().to_string(),
        "the descriptor \"a\" with number 1 was sent twice"
    );
    let many = |count| (0..count).map(|id| entry("a", id)).collect();
    assert!(State::new(many(4096), Vec::new()).is_ok());
    let refusal = State::new(many(4097), Vec::new()).unwrap_err();
    assert_eq!(refusal.to_string(), "more than 4096 descriptors");
}

#[test]
fn the_largest_state_is_within_the_limit_of_its_bytes() {
    let long = |number: i32| format!("{number:0255}");
    let entries = (0..4096).map(|id| entry(&long(id), id)).collect();
    let ids = Ids {
        device: 1,
        ioas: 2,
        hwpt: 3,
    };
    let devices = (0..64).map(|id| Device {
        name: entry(&long(id), 0).name,
        ids,
    });
    let state = State::new(entries, devices.collect()).expect("a state");
    let bytes = state.encode().bytes;
    assert!((MAX_STATE - 40..=MAX_STATE).contains(&bytes.len()));
    assert_eq!(State::parse(&bytes).as_ref(), Ok(&state));
    let Encoded { mut bytes, .. } = state.encode();
    // One more descriptor, before the end of the list.
    let end = bytes
        .iter()
        .rposition(|&byte| byte == PART)
        .expect("a part")
        - 1;
    bytes.splice(end..end, *b"\x01\0\0\0\x02x\0\0\0\0\0\x20");
    let refusal = State::parse(&bytes).unwrap_err();
    assert_eq!(refusal.to_string(), "more than 4096 descriptors");
}

proptest! {
    #[test]
    fn any_state_comes_back(
        entries in prop::collection::btree_set(("[ -~]{1,40}", any::<i32>()), 0..20),
        devices in prop::collection::btree_map("[ -~]{1,40}", any::<(i32, u32, u32)>(), 0..5),
    ) {
        let entries = entries.iter().map(|(name, id)| entry(name, *id)).collect();
        let devices = devices.iter().map(|(name, (device, ioas, hwpt))| Device {
            name: entry(name, 0).name,
            ids: Ids { device: *device, ioas: *ioas, hwpt: *hwpt },
        });
        let state = State::new(entries, devices.collect()).expect("a state");
        let encoded = state.encode();
        prop_assert_eq!(encoded.marks.len(), state.entries().len());
        prop_assert_eq!(State::parse(&encoded.bytes), Ok(state));
    }

    #[test]
    fn damage_never_panics_and_what_is_accepted_is_written_as_it_was(
        changes in prop::collection::vec((0..NIC.len(), any::<u8>()), 1..4)
    ) {
        let mut bytes = NIC.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(state) = State::parse(&bytes) {
            prop_assert_eq!(state.encode().bytes, bytes);
        }
    }
}
