// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reads the words on a kernel's command line that matter to what runs on.
//!
//! Words are told apart as the kernel does it (lib/cmdline.c, `next_arg()`): by spaces outside of quotes, up to `--`. Of
//! a word that is said twice the last one counts. What is built into a kernel, or comes in a boot configuration, is not seen.

use crate::record::hardware::Kinds;

/// A word: `name=value`, or a name alone.
type Word<'a> = (&'a [u8], Option<&'a [u8]>);

/// The words on a command line.
pub fn words(line: &[u8]) -> impl Iterator<Item = Word<'_>> + Clone {
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut quoted = false;
    let words = line.split(move |byte| {
        quoted ^= *byte == b'"';
        !quoted && byte.is_ascii_whitespace()
    });
    let words = words.filter(|word| !word.is_empty()).map(word);
    words.take_while(|word| *word != (b"--", None))
}

/// Without the quotes around a whole word, and those around its value.
fn word(word: &[u8]) -> Word<'_> {
    let word = unquoted(word);
    match word.iter().position(|byte| *byte == b'=') {
        Some(equals) if equals > 0 => {
            let (name, value) = word.split_at(equals);
            (name, value.get(1..).map(unquoted))
        }
        _ => (word, None),
    }
}

/// Without a quote at the beginning, and then without one at the end.
fn unquoted(text: &[u8]) -> &[u8] {
    match text.strip_prefix(b"\"") {
        Some(text) => text.strip_suffix(b"\"").unwrap_or(text),
        None => text,
    }
}

/// What a word says of a name: its value, which is empty if it has none. Dashes and underscores are the same in names.
fn value<'a>((name, value): Word<'a>, wanted: &[u8]) -> Option<&'a [u8]> {
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b'-' && *b == b'_');
    let is = name.len() == wanted.len() && name.iter().zip(wanted).all(same);
    is.then(|| value.unwrap_or_default())
}

/// The options in the value of a word, which commas separate.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|byte| *byte == b',')
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

fn last<T>(line: &[u8], of: impl Fn(Word<'_>) -> Option<T>) -> Option<T> {
    words(line).filter_map(of).last()
}

/// What a boolean word says, if it is there.
pub fn switch(line: &[u8], name: &[u8]) -> Option<bool> {
    last(line, |word| boolean(value(word, name)?))
}

/// What the last option that `means` something says among those of a word, which may be there more than once.
pub fn option<T>(line: &[u8], name: &[u8], means: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    last(line, |word| {
        options(value(word, name)?).filter_map(&means).last()
    })
}

/// Whether IOMMUs are switched on or off, if anything says so. Each kind has words of its own, and `iommu=off` is off
/// whatever they say.
pub fn iommu(line: &[u8], kinds: Kinds) -> Option<bool> {
    let off = option(line, b"iommu", |option| {
        option.starts_with(b"off").then_some(false)
    });
    let mut said = kinds.iter().filter_map(|kind| kind.switched(line));
    off.or_else(|| said.next())
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

fn remapping(line: &[u8]) -> impl Iterator<Item = Word<'_>> + Clone {
    words(line).filter(|word| REMAPPING.iter().any(|name| value(*word, name).is_some()))
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
        let line = b" a  b=\"c d\"\t\"e f\" \"g=h i\" j=k=l =m\0kho=on";
        let expected: [Word<'_>; 6] = [
            (b"a", None),
            (b"b", Some(b"c d")),
            (b"e f", None),
            (b"g", Some(b"h i")),
            (b"j", Some(b"k=l")),
            (b"=m", None),
        ];
        assert!(words(line).eq(expected));
        for end in [&b"-- kho=off"[..], b"\"--\" kho=off", b"a\0kho=off"] {
            assert_eq!(switch(end, b"kho"), None);
        }
    }

    #[test]
    fn the_last_switch_counts() {
        for (line, expected) in [
            (&b"kho=on kho=off"[..], Some(false)),
            (b"kho=0 kho=Yes", Some(true)),
            (b"kho=on kho=\"off\"", Some(false)),
            (b"kho=on \"kho=off\"", Some(false)),
            (b"kho=perhaps", None),
            (b"xkho=on kho.x=on khox=on", None),
            (b"-- kho=on", None),
        ] {
            assert_eq!(switch(line, b"kho"), expected);
        }
        assert_eq!(switch(b"a-b=1", b"a_b"), Some(true));
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
