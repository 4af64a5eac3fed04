// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Fields of 64-bit words, without conversions that could lose bits unseen.

/// Bits 63 to 12: where table pointers sit.
pub(crate) const POINTER: u64 = !0xfff;

/// A word with only `bit` set; 0 for a bit that a word does not have.
pub(crate) const fn bit(bit: u32) -> u64 {
    match 1u64.checked_shl(bit) {
        Some(word) => word,
        None => 0,
    }
}

/// A word with bit `number` set if `set`.
pub(crate) const fn flag(number: u32, set: bool) -> u64 {
    if set {
        bit(number)
    } else {
        0
    }
}

/// Whether `word` has bit `number` set.
pub(crate) const fn is_set(word: u64, number: u32) -> bool {
    word & bit(number) != 0
}

/// The lowest 16 bits of `word`.
pub(crate) const fn low_u16(word: u64) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The lowest 32 bits of `word`.
pub(crate) const fn low_u32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The lowest 8 bits of `word`.
pub(crate) const fn low_u8(word: u64) -> u8 {
    let [low, ..] = word.to_le_bytes();
    low
}
