// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reads the words on a kernel's command line that matter to what runs on.
//!
//! Words are told apart as the kernel does it (lib/cmdline.c, `next_arg()`): by spaces outside of quotes, up to `--`. Of
//! a word that is said twice the last one counts.

/// The words on a command line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut quoted = false;
    let words = line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == 0 || (!quoted && byte.is_ascii_whitespace())
    });
    let words = words.filter(|word| !word.is_empty());
    words.take_while(|word| *word != b"--")
}

/// What a word says of a name: `name=value` gives the value, `name` alone an empty one. Dashes and underscores are the same
/// in names.
fn value<'a>(word: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = word.split_at_checked(name.len())?;
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b'-' && *b == b'_');
    if !head.iter().zip(name).all(same) {
        return None;
    }
    match tail {
        [] => Some(tail),
        [b'=', value @ ..] => Some(value),
        _ => None,
    }
}

/// The options in the value of a word, which commas separate.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|byte| *byte == b',' || *byte == b'"')
}

/// As the kernel's `kstrtobool()` reads it.
fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] => Some(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
}

fn last<T>(line: &[u8], of: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    words(line).filter_map(of).last()
}

/// What a boolean word says, if it is there.
pub fn switch(line: &[u8], name: &[u8]) -> Option<bool> {
    last(line, |word| boolean(value(word, name)?))
}

/// Whether the IOMMU is switched on or off, if anything says so.
pub fn iommu(line: &[u8]) -> Option<bool> {
    // Whatever `intel_iommu` says, `iommu=off` is off.
    let off = last(line, |word| {
        let mut options = options(value(word, b"iommu")?);
        options
            .any(|option| option.starts_with(b"off"))
            .then_some(())
    });
    let driver = last(line, |word| {
        let options = options(value(word, b"intel_iommu")?);
        let on = options.filter_map(|option| match option {
            [b'o', b'n', ..] => Some(true),
            [b'o', b'f', b'f', ..] => Some(false),
            _ => None,
        });
        on.last()
    });
    off.map(|()| false).or(driver)
}

/// Options of `pci=` that change the numbers of buses, the path of requests or who is isolated from whom.
const PCI: [&[u8]; 14] = [
    b"assign-busses",
    b"hpbussize=",
    b"lastbus=",
    b"noacpi",
    b"nodomains",
    b"noari",
    b"disable_acs_redir=",
    b"config_acs=",
    b"pcie_scan_all",
    b"pcie_bus_",
    b"realloc",
    b"resource_alignment=",
    b"conf1",
    b"nommconf",
];

fn pci(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let options = words(line)
        .filter_map(|word| value(word, b"pci"))
        .flat_map(options);
    options.filter(|option| PCI.iter().any(|known| option.starts_with(known)))
}

/// Whether two kernels number PCI functions, and isolate them, by the same options.
pub fn same_pci(this: &[u8], next: &[u8]) -> bool {
    pci(this).eq(pci(next))
}

/// Words by which interrupts are remapped in another mode, or not at all.
const REMAPPING: [&[u8]; 4] = [b"intremap", b"nointremap", b"nox2apic", b"x2apic_phys"];

fn remapping(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    words(line).filter(|word| REMAPPING.iter().any(|name| value(word, name).is_some()))
}

/// Whether two kernels remap interrupts by the same words.
pub fn same_remapping(this: &[u8], next: &[u8]) -> bool {
    remapping(this).eq(remapping(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_as_the_kernel_does() {
        let line = b" a  b=\"c d\"\te\0-- f";
        assert!(words(line).eq([&b"a"[..], b"b=\"c d\"", b"e"]));
    }

    #[test]
    fn the_last_switch_counts() {
        for (line, expected) in [
            (&b"kho=on kho=off"[..], Some(false)),
            (b"kho=0 kho=Yes", Some(true)),
            (b"kho=perhaps", None),
            (b"xkho=on kho.x=on khox=on", None),
            (b"-- kho=on", None),
        ] {
            assert_eq!(switch(line, b"kho"), expected);
        }
        assert_eq!(switch(b"a-b=1", b"a_b"), Some(true));
    }

    #[test]
    fn the_iommu_is_off_if_anything_says_so() {
        for (line, expected) in [
            (&b"quiet"[..], None),
            (b"intel_iommu=on", Some(true)),
            (b"intel_iommu=sm_on,off", Some(false)),
            (b"intel_iommu=off intel_iommu=on,sm_off", Some(true)),
            (b"intel_iommu=on iommu=pt,off", Some(false)),
            (b"iommu=pt", None),
        ] {
            assert_eq!(iommu(line), expected);
        }
    }

    #[test]
    fn only_what_changes_is_a_difference() {
        let same = b"quiet pci=nomsi,hpbussize=4 pci=noari";
        assert!(same_pci(same, b"pci=hpbussize=4,noari,nocrs"));
        assert!(!same_pci(same, b"pci=hpbussize=5,noari"));
        assert!(!same_pci(b"", b"pci=disable_acs_redir=00:1c.0"));
        assert!(same_remapping(b"nox2apic", b"quiet nox2apic"));
        assert!(!same_remapping(b"", b"intremap=off"));
    }
}
