// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bytes of a manifest: as they were, changed, cut off, and made up.

use proptest::prelude::*;

use super::*;
use crate::mapping::Rights;

/// What version 1 looks like. It does not change any more: a change of the format is a new version.
const GOLDEN: &[u8] = include_bytes!("../../testdata/manifest-v1.bin");

/// A VM of everything: several of each kind, a HWPT that two devices share and one with no mappings said, interrupts.
fn example() -> Manifest {
    let mut plan = Plan::default();
    let mut make = || -> Result<(), Error> {
        for name in ["ram", "rom"] {
            plan.add_memory(name)?;
        }
        for name in ["first", "second"] {
            plan.add_iommufd(name)?;
        }
        plan.add_hwpt("dma", "first", 7)?;
        plan.add_hwpt("other", "second", 7)?;
        for (iova, offset, rights) in [
            (0x10_0000, 0, Rights::ReadWrite),
            (0x20_0000, 0x1000, Rights::Read),
        ] {
            let mapping = Mapping {
                iova,
                length: 0x1000,
                memory: "ram".into(),
                offset,
                rights,
            };
            plan.add_mapping("dma", mapping)?;
        }
        plan.add_device("nic", "dma")?;
        plan.add_device("disk \"a\" ü", "dma")?;
        plan.add_device("gpu", "other")?;
        plan.set_interrupts("nic", Irq::Msix, 5)?;
        plan.set_interrupts("gpu", Irq::Intx, 1)?;
        Ok(())
    };
    make().expect("a plan");
    Manifest {
        tokens: Tokens::assign(&plan),
        plan,
        state: b"opaque\0\xff".to_vec(),
    }
}

/// A manifest around a description and a state, with a right checksum.
fn sealed(body: &[u8], state: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(MAGIC);
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend((state.len() as u64).to_le_bytes());
    bytes.extend(body);
    bytes.extend(state);
    mend(&mut bytes);
    bytes
}

/// Makes version and checksum right.
fn mend(bytes: &mut [u8]) {
    let sum = crc32fast::hash(&bytes[8..]);
    bytes[..4].copy_from_slice(&VERSION.to_le_bytes());
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn body() -> String {
    let length = u64::from_le_bytes(GOLDEN[16..24].try_into().expect("8 bytes"));
    String::from_utf8(GOLDEN[HEADER..][..length as usize].to_vec()).expect("JSON")
}

#[test]
fn golden_bytes_are_written_and_read() {
    let bytes = example().encode();
    if std::env::var_os("HITLESS_WRITE_GOLDEN").is_some() {
        std::fs::write("testdata/manifest-v1.bin", &bytes).expect("written");
    }
    assert_eq!(bytes, GOLDEN);
    assert_eq!(Manifest::decode(GOLDEN).expect("a manifest"), example());
}

#[test]
fn every_changed_byte_is_seen() {
    for at in 0..GOLDEN.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] ^= change;
            let flaw = Manifest::decode(&bytes).expect_err("changed");
            let named = match at {
                0..4 => matches!(flaw, Flaw::UnknownVersion(_)),
                8..16 => matches!(flaw, Flaw::NotAManifest),
                16..32 => matches!(flaw, Flaw::Length),
                _ => matches!(flaw, Flaw::Damaged),
            };
            assert!(named, "byte {at}: {flaw}");
        }
    }
}

#[test]
fn every_shorter_and_longer_one_is_seen() {
    for length in 0..GOLDEN.len() {
        let flaw = Manifest::decode(&GOLDEN[..length]).expect_err("cut off");
        assert!(matches!(flaw, Flaw::Length), "{length} bytes: {flaw}");
    }
    let longer = [GOLDEN, b"x"].concat();
    assert!(matches!(Manifest::decode(&longer), Err(Flaw::Length)));
}

#[test]
fn lengths_that_wrap_are_seen() {
    let mut bytes = GOLDEN.to_vec();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    bytes[24..32].copy_from_slice(&(GOLDEN.len() as u64).to_le_bytes());
    mend(&mut bytes);
    assert!(matches!(Manifest::decode(&bytes), Err(Flaw::Length)));
}

#[test]
fn an_unknown_version_is_told_whatever_follows() {
    let flaw = Manifest::decode(&2_u32.to_le_bytes()).expect_err("unknown");
    assert!(matches!(flaw, Flaw::UnknownVersion(2)), "{flaw}");
}

/// What is wrong with the golden description after one change of its text.
fn flaw_of(from: &str, to: &str) -> String {
    let body = body();
    assert!(body.contains(from), "{from} is not in {body}");
    let bytes = sealed(body.replacen(from, to, 1).as_bytes(), b"");
    Manifest::decode(&bytes).expect_err(to).to_string()
}

#[test]
fn a_description_that_makes_no_sense_is_refused_by_name() {
    let first = format!("{}", NOTES_TOKEN + 1);
    let manifest = format!("{MANIFEST_TOKEN}");
    let second = format!("{}", NOTES_TOKEN + 2);
    for (from, to, words) in [
        ("\"rom\"", "\"ram\"", "a memory of the name `ram` already"),
        ("\"rom\"", "\"\"", "1 to 255 bytes"),
        (
            "\"hwpt\":\"dma\"",
            "\"hwpt\":\"dna\"",
            "no HWPT of the name `dna`",
        ),
        (
            "\"iommufd\":\"first\"",
            "\"iommufd\":\"last\"",
            "no iommufd",
        ),
        ("\"memory\":\"ram\"", "\"memory\":\"row\"", "no memory"),
        (
            "\"iova\":2097152",
            "\"iova\":1048576",
            "cannot have the mapping",
        ),
        ("\"iova\":2097152", "\"iova\":1", "cannot have the mapping"),
        ("\"length\":4096", "\"length\":0", "cannot have the mapping"),
        (
            "\"iova\":2097152",
            "\"iova\":18446744073709547520",
            "cannot have the mapping",
        ),
        (
            "\"offset\":4096",
            "\"offset\":18446744073709547520",
            "cannot have the mapping",
        ),
        (
            "\"vectors\":5",
            "\"vectors\":2049",
            "2049 interrupt vectors",
        ),
        ("\"vectors\":5", "\"vectors\":-5", "cannot be read"),
        ("\"read-write\"", "\"execute\"", "cannot be read"),
        (
            "{\"memories\"",
            "{\"more\":1,\"memories\"",
            "cannot be read",
        ),
        (&second, &first, "is given twice"),
        (&first, &manifest, "is given twice"),
    ] {
        let said = flaw_of(from, to);
        assert!(said.contains(words), "{to}: {said}");
    }
    // In one iommufd two HWPTs cannot have one token; in two they can, as in the example.
    let said = flaw_of("\"iommufd\":\"second\"", "\"iommufd\":\"first\"");
    assert!(said.contains("the same one as"), "{said}");
}

#[test]
fn a_deep_description_is_refused() {
    let deep = "[".repeat(1 << 16);
    let flaw = Manifest::decode(&sealed(deep.as_bytes(), b"")).expect_err("deep");
    assert!(matches!(flaw, Flaw::Description(_)), "{flaw}");
}

#[test]
fn a_changed_description_is_read_or_refused_but_never_a_third() {
    let body = body().into_bytes();
    let mut read = 0;
    for at in 0..body.len() {
        for byte in [b'0', b'"', b'}', b' ', 0, 0xff] {
            let mut body = body.clone();
            body[at] = byte;
            if let Ok(manifest) = Manifest::decode(&sealed(&body, b"x")) {
                // What is accepted makes sense: it can be written, and is read as the same again.
                let again = Manifest::decode(&manifest.encode()).expect("read again");
                assert_eq!(again, manifest);
                read += 1;
            }
        }
    }
    assert!(read > 0, "no change was harmless");
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Manifest::decode(&bytes);
        let _ = Manifest::decode(&sealed(&bytes, &bytes));
    }

    #[test]
    fn what_is_written_is_read(
        names in proptest::collection::btree_set("\\PC{1,40}", 1..6),
        state in proptest::collection::vec(any::<u8>(), 0..64),
        pages in proptest::collection::btree_set(0_u64..1 << 40, 0..20),
    ) {
        let mut plan = Plan::default();
        plan.add_iommufd("i").expect("new");
        for (name, token) in names.iter().zip(0..) {
            plan.add_memory(name).expect("new");
            plan.add_hwpt(name, "i", token).expect("new");
            plan.add_device(name, name).expect("new");
            for page in &pages {
                let mapping = Mapping {
                    iova: page * PAGE_BYTES,
                    length: PAGE_BYTES,
                    memory: name.clone(),
                    offset: page * PAGE_BYTES,
                    rights: Rights::Write,
                };
                plan.add_mapping(name, mapping).expect("apart");
            }
        }
        let tokens = Tokens::assign(&plan);
        let manifest = Manifest { plan, tokens, state };
        prop_assert_eq!(Manifest::decode(&manifest.encode()).expect("read"), manifest);
    }
}

const PAGE_BYTES: u64 = crate::mapping::PAGE;
