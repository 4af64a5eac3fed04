// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Images of kernels, and whether the machine may jump into them. `testdata/abi/v1/image.bin` is the record of the first
//! release; the images around it are made here.

use hitless_core::abi::image::{ImageSer, DEFAULT_HANDOVER, MAGIC, OWN_LINE};
use hitless_core::image::bzimage::{self, Says};
use hitless_core::image::{format_feature, kind_feature};
use hitless_core::iommu::kinds::KINDS;
use hitless_core::refusal::Refusal;
use hitless_core::rules::image::{device, image, jump, read, Held, ImageFacts};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

const GOLDEN: &[u8] = include_bytes!("../testdata/abi/v1/image.bin");
const SETUP_SECTORS: usize = 5;
const INFO: usize = 0x4321;
const LINE: &[u8] = b"console=ttyS0 kho=on liveupdate=on intel_iommu=on";
/// What records with one unit and one page table of the first kinds use.
fn uses() -> u64 {
    kind_feature(1) | format_feature(1)
}

fn golden() -> ImageSer {
    ImageSer::read_from_bytes(GOLDEN).expect("40 bytes")
}

/// A bzImage with this in the variable part of its `kernel_info`.
fn bzimage(variable: &[u8]) -> Vec<u8> {
    let info = (SETUP_SECTORS + 1) * 512 + INFO;
    let mut image = vec![0x90; info + 16 + variable.len() + 99];
    image[0x1f1] = u8::try_from(SETUP_SECTORS).expect("small");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x268..0x26c].copy_from_slice(&u32::try_from(INFO).expect("small").to_le_bytes());
    let whole = u32::try_from(16 + variable.len()).expect("small");
    let fixed = [&b"LToP"[..], &16_u32.to_le_bytes(), &whole.to_le_bytes()].concat();
    image[info..info + 12].copy_from_slice(&fixed);
    image[info + 16..info + 16 + variable.len()].copy_from_slice(variable);
    image
}

/// Of another's, then the record.
fn with(record: &ImageSer) -> Vec<u8> {
    let other = [&b"OTHR"[..], &12_u32.to_le_bytes(), b"abcd"].concat();
    bzimage(&[&other, record.as_bytes()].concat())
}

fn asks(bytes: &[u8], line: &[u8]) -> Result<Option<Refusal>, Refusal> {
    image(&read(bytes, line, LINE, KINDS), uses())
}

#[test]
fn the_record_of_the_first_release_is_what_this_one_writes() {
    let written = ImageSer {
        magic: MAGIC,
        size: 40.into(),
        version: 1.into(),
        oldest: 1.into(),
        newest: 1.into(),
        takes: (kind_feature(1) | format_feature(1) | format_feature(2)).into(),
        needs: 0.into(),
        defaults: 0.into(),
        reserved: 0.into(),
    };
    assert_eq!(written.as_bytes(), GOLDEN);
    assert_eq!(asks(&with(&golden()), LINE), Ok(None));
}

#[test]
fn images_that_say_nothing_or_too_little_are_refused() {
    use Refusal::{ImageNeedsMore, ImageOfOtherFormat, ImageTakesLess, ImageWithoutHitless};
    let record = |change: fn(&mut ImageSer)| {
        let mut record = golden();
        change(&mut record);
        with(&record)
    };
    let cases: [(&str, Vec<u8>, Result<(), Refusal>); 12] = [
        (
            "deaf",
            record(|record| record.defaults = OWN_LINE.into()),
            Err(Refusal::ImageOwnLine),
        ),
        ("none", bzimage(b""), Err(ImageWithoutHitless)),
        ("no kernel", vec![0; 4096], Err(ImageWithoutHitless)),
        ("empty", Vec::new(), Err(ImageWithoutHitless)),
        (
            "older",
            record(|record| (record.oldest, record.newest) = (0.into(), 0.into())),
            Err(ImageOfOtherFormat),
        ),
        (
            "newer, and takes this one over",
            record(|record| record.newest = 7.into()),
            Ok(()),
        ),
        (
            "newer, and does not",
            record(|record| (record.oldest, record.newest) = (2.into(), 7.into())),
            Err(ImageOfOtherFormat),
        ),
        (
            "newer, with an unknown optional feature",
            record(|record| record.takes = (record.takes.get() | 1 << 60).into()),
            Ok(()),
        ),
        (
            "newer, with an unknown required feature",
            record(|record| record.needs = (1 << 60).into()),
            Err(ImageNeedsMore),
        ),
        (
            "without a page-table format",
            record(|record| record.takes = (record.takes.get() & !format_feature(1)).into()),
            Err(ImageTakesLess),
        ),
        (
            "another version of the record",
            record(|record| record.version = 2.into()),
            Err(ImageOfOtherFormat),
        ),
        (
            "cut off",
            record(|record| record.size = 39.into()),
            Err(ImageOfOtherFormat),
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(asks(&bytes, LINE).map(|_| ()), expected, "{name}");
    }
}

#[test]
fn what_the_command_line_switches_off_or_changes_is_refused() {
    use Refusal::*;
    let bytes = with(&golden());
    for (words, refusal) in [
        ("hitless=off", NextHitlessOff),
        ("kho=off", NextHandoverOff),
        ("liveupdate=0", NextHandoverOff),
        ("intel_iommu=off", NextIommuOff),
        ("iommu=off", NextIommuOff),
        ("intremap=off", NextOtherRemapping),
        ("nox2apic", NextOtherRemapping),
        ("pci=disable_acs_redir=00:02.0", NextOtherPci),
        ("pci=nomsi,assign-busses", NextOtherPci),
    ] {
        let line = [LINE, b" ", words.as_bytes()].concat();
        assert_eq!(asks(&bytes, &line), Err(refusal), "{words}");
        let anyway = [&line, &b" hitless.jump=anyway"[..]].concat();
        assert_eq!(asks(&bytes, &anyway), Ok(Some(refusal)), "{words}");
    }
    for words in ["iommu=pt", "intel_iommu=sm_off", "pci=nomsi", "quiet"] {
        let line = [LINE, b" ", words.as_bytes()].concat();
        assert_eq!(asks(&bytes, &line), Ok(None), "{words}");
    }
}

#[test]
fn what_is_not_said_is_what_the_image_does_by_itself() {
    let quiet = b"liveupdate=on intel_iommu=on";
    assert_eq!(asks(&with(&golden()), quiet), Err(Refusal::NextHandoverOff));
    let mut record = golden();
    record.defaults = DEFAULT_HANDOVER.into();
    assert_eq!(asks(&with(&record), quiet), Ok(None));
}

#[test]
fn a_device_that_is_not_swapped_keeps_the_machine() {
    let good = read(&with(&golden()), LINE, LINE, KINDS);
    let told = read(
        &with(&golden()),
        &[LINE, b" hitless.jump=anyway"].concat(),
        LINE,
        KINDS,
    );
    for uses in [None, Some(uses())] {
        let [still, runs] = [false, true].map(|runs| Held { uses, runs });
        assert_eq!(jump(&good, &still), Ok(None));
        assert_eq!(jump(&told, &still), Ok(None));
        assert_eq!(jump(&good, &runs), Err(Refusal::NotSwapped));
        assert_eq!(jump(&told, &runs), Ok(Some(Refusal::NotSwapped)));
    }
}

#[test]
fn a_machine_that_holds_nothing_jumps_into_anything() {
    let nothing = Held {
        uses: None,
        runs: false,
    };
    let mut loaded = read(b"", b"hitless=off", LINE, KINDS);
    assert_eq!(jump(&loaded, &nothing), Ok(None));
    let held = Held {
        uses: Some(0),
        ..nothing
    };
    assert_eq!(jump(&loaded, &held), Err(Refusal::ImageWithoutHitless));
    loaded.facts.0 |= ImageFacts::NO_HANDOVER;
    assert_eq!(jump(&loaded, &held), Err(Refusal::NoHandover));
}

#[test]
fn an_image_that_comes_back_is_no_next_kernel() {
    let mut loaded = read(b"", b"", LINE, KINDS);
    loaded.facts.0 |= ImageFacts::NO_HANDOVER;
    let held = Held {
        uses: Some(uses()),
        runs: true,
    };
    assert!(jump(&loaded, &held).is_err());
    loaded.facts.0 |= ImageFacts::COMES_BACK;
    assert_eq!(jump(&loaded, &held), Ok(None));
}

#[test]
fn a_device_that_comes_after_the_question_is_asked_about_by_itself() {
    let mut loaded = read(&with(&golden()), LINE, LINE, KINDS);
    // What others need says nothing about this one.
    loaded.needs = 1 << 60;
    assert_eq!(device(&loaded, uses()), Ok(()));
    loaded.takes &= !kind_feature(1);
    assert_eq!(device(&loaded, uses()), Err(Refusal::ImageTakesLess));
    loaded.facts.0 |= ImageFacts::ANYWAY;
    assert_eq!(device(&loaded, uses()), Ok(()));
}

#[test]
fn nobody_can_want_an_image_to_which_all_memory_is_free() {
    let mut loaded = read(&with(&golden()), b"hitless.jump=anyway", LINE, KINDS);
    loaded.facts.0 |= ImageFacts::NO_HANDOVER;
    assert_eq!(image(&loaded, uses()), Err(Refusal::NoHandover));
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..2048), at in 0_usize..0x5000, value in any::<u32>()) {
        let _ = bzimage::read(&bytes);
        let _ = read(b"", &bytes, &bytes, KINDS);
        // One word of a good image changed, wherever it is.
        let mut image = with(&golden());
        if let Some(word) = image.get_mut(at..at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        // What is read may differ, but only by what the word can say.
        if let Says::Record(record) = bzimage::read(&image) {
            prop_assert!(image.windows(8).any(|bytes| bytes == record.takes.to_le_bytes()));
        }
    }
}
