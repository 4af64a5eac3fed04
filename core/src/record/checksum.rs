// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! CRC-32C (Castagnoli) of a page, kept right while parts of the page change.
//!
//! The sum is linear: two pages that differ in a few bytes have sums that differ by what these
//! differences contribute, moved by the number of bytes after them. So a change of an entry costs as
//! much as the entry is long, and not a page.

use crate::abi::list::{Page, PAGE_SIZE};

/// The polynomial, its lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The sums of the 16 values of half a byte.
const TABLE: [u32; 16] = [
    0x0000_0000,
    0x105e_c76f,
    0x20bd_8ede,
    0x30e3_49b1,
    0x417b_1dbc,
    0x5125_dad3,
    0x61c6_9362,
    0x7198_540d,
    0x82f6_3b78,
    0x92a8_fc17,
    0xa24b_b5a6,
    0xb215_72c9,
    0xc38d_26c4,
    0xd3d3_e1ab,
    0xe330_a81a,
    0xf36e_6f75,
];

/// Goes on with four more bits.
fn half(sum: u32, bits: u8) -> u32 {
    let [low, ..] = sum.to_le_bytes();
    let term = TABLE.get(usize::from((low ^ bits) & 0xf));
    sum >> 4 ^ term.copied().unwrap_or(0)
}

fn byte(sum: u32, byte: u8) -> u32 {
    half(half(sum, byte), byte >> 4)
}

/// The product of two polynomials.
fn product(mut one: u32, mut other: u32) -> u32 {
    let mut sum = 0;
    while one != 0 {
        if one & 1 << 31 != 0 {
            sum ^= other;
        }
        one <<= 1;
        other = other >> 1 ^ if other & 1 == 0 { 0 } else { POLYNOMIAL };
    }
    sum
}

/// Moves a contribution by `bytes` bytes that do not differ.
fn moved(sum: u32, mut bytes: usize) -> u32 {
    let mut sum = sum;
    // The power of the polynomial's variable that one byte is: 8.
    let mut power: u32 = 1 << (31 - 8);
    while bytes != 0 {
        if bytes & 1 != 0 {
            sum = product(power, sum);
        }
        power = product(power, power);
        bytes >>= 1;
    }
    sum
}

/// The sum of a page whose checksum is at `at`, which counts as 0.
pub(super) fn of(page: &Page, at: usize) -> u32 {
    let field = at..at.saturating_add(4);
    let bytes = page.iter().enumerate();
    !bytes.fold(u32::MAX, |sum, (offset, value)| {
        byte(sum, if field.contains(&offset) { 0 } else { *value })
    })
}

/// Writes `new` at `offset`, and says by what the sum of the page changes: the two are to be added
/// without carry. What does not fit is not written.
#[must_use]
pub(super) fn write(page: &mut Page, offset: usize, new: &[u8]) -> u32 {
    let end = offset.saturating_add(new.len());
    let Some(old) = page.get_mut(offset..end) else {
        return 0;
    };
    let mut sum = 0;
    for (old, new) in old.iter_mut().zip(new) {
        sum = byte(sum, *old ^ *new);
        *old = *new;
    }
    moved(sum, PAGE_SIZE.saturating_sub(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_crc_32c() {
        let sum = b"123456789".iter().fold(u32::MAX, |sum, b| byte(sum, *b));
        assert_eq!(!sum, 0xe306_9283);
        for (bits, term) in (0..).zip(TABLE) {
            let term_bitwise = (0..4).fold(bits, |sum: u32, _| {
                sum >> 1 ^ if sum & 1 == 0 { 0 } else { POLYNOMIAL }
            });
            assert_eq!(term, term_bitwise);
        }
    }

    proptest! {
        #[test]
        fn a_change_moves_the_sum(
            start: u8,
            offset in 64_usize..PAGE_SIZE,
            new in proptest::collection::vec(any::<u8>(), 0..130),
        ) {
            let mut page = [start; PAGE_SIZE];
            let before = of(&page, 12);
            let change = write(&mut page, offset, &new);
            prop_assert_eq!(before ^ change, of(&page, 12));
        }
    }
}
