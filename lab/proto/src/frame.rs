// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The numbered, checksummed Ethernet frames: [`build`] and [`check`] side by side.
//!
//! All numbers but the ethertype are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 6 | destination MAC |
//! | 6 | 6 | source MAC |
//! | 12 | 2 | ethertype, big-endian, [`ETHERTYPE`] |
//! | 14 | 4 | [`MAGIC`] |
//! | 18 | 1 | the card's number |
//! | 19 | 1 | zero |
//! | 20 | 2 | length of the whole frame, checksum included |
//! | 22 | 2 | zero |
//! | 24 | 8 | sequence number |
//! | 32 | 8 | when it was sent, nanoseconds of the sender's clock |
//! | 40 | n | payload, a function of card and sequence number |
//! | length - 4 | 4 | CRC-32 of everything before |
//!
//! The payload is a function of card and sequence number so that bytes of another frame, even of one with a good
//! checksum, can not stand in for the right ones.

use thiserror::Error;

/// The first of IEEE 802's two ethertypes for local experiments.
pub const ETHERTYPE: u16 = 0x88b5;
/// Bytes 14 to 17 of every frame.
pub const MAGIC: u32 = u32::from_le_bytes(*b"HTLS");
/// Bytes of a frame unless something else is asked for.
pub const DEFAULT_LENGTH: usize = 256;
/// The shortest frame: Ethernet's minimum without its own checksum.
pub const MIN_LENGTH: usize = 60;
/// The longest frame: Ethernet's maximum without its own checksum.
pub const MAX_LENGTH: usize = 1514;

const PAYLOAD: usize = 40;
const CRC: usize = 4;

/// What a good frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The card's number.
    pub card: u8,
    /// Sequence number.
    pub sequence: u64,
    /// When it was sent, nanoseconds of the sender's clock.
    pub sent_ns: u64,
}

/// Why bytes are not a frame as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A frame of this length can not be built.
    #[error(
        "a frame has {MIN_LENGTH} to {MAX_LENGTH} bytes, not {0}: ask for a length in that range"
    )]
    Size(usize),
    /// Too few bytes, or not the ethertype and magic of the lab's frames.
    #[error("not one of the lab's frames (ethertype or magic differs): something else sent it, or nothing landed")]
    NotOurs,
    /// The length in the frame does not fit what landed.
    #[error("the frame says it has {0} bytes and {1} landed")]
    Length(usize, usize),
    /// The checksum in the frame does not fit the content.
    #[error("checksum {0:#010x} where the content gives {1:#010x}: the content is damaged")]
    Checksum(u32, u32),
    /// The checksum fits, the payload is not that of this card and sequence number.
    #[error("the payload is not that of card {0}, frame {1}")]
    Payload(u8, u64),
}

/// Writes a frame that fills `buffer`.
///
/// # Errors
///
/// [`Error::Size`] when the buffer's length is not that of an Ethernet frame; nothing is written then.
pub fn build(
    buffer: &mut [u8],
    destination: [u8; 6],
    source: [u8; 6],
    card: u8,
    sequence: u64,
    sent_ns: u64,
) -> Result<(), Error> {
    let length = buffer.len();
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        return Err(Error::Size(length));
    }
    let said = u16::try_from(length).map_err(|_| Error::Size(length))?;
    buffer[0..6].copy_from_slice(&destination);
    buffer[6..12].copy_from_slice(&source);
    buffer[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    buffer[14..18].copy_from_slice(&MAGIC.to_le_bytes());
    buffer[18] = card;
    buffer[19] = 0;
    buffer[20..22].copy_from_slice(&said.to_le_bytes());
    buffer[22..24].fill(0);
    buffer[24..32].copy_from_slice(&sequence.to_le_bytes());
    buffer[32..40].copy_from_slice(&sent_ns.to_le_bytes());
    let (content, checksum) = buffer.split_at_mut(length - CRC);
    for (chunk, word) in content[PAYLOAD..].chunks_mut(8).zip(words(card, sequence)) {
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    checksum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    Ok(())
}

/// Reads what landed; bytes behind the frame's own length (the card's checksum, padding) are not looked at.
///
/// # Errors
///
/// Any of [`enum@Error`] but [`Error::Size`].
pub fn check(bytes: &[u8]) -> Result<Header, Error> {
    if bytes.len() < MIN_LENGTH
        || bytes[12..14] != ETHERTYPE.to_be_bytes()
        || bytes[14..18] != MAGIC.to_le_bytes()
    {
        return Err(Error::NotOurs);
    }
    let length = usize::from(u16::from_le_bytes([bytes[20], bytes[21]]));
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) || length > bytes.len() {
        return Err(Error::Length(length, bytes.len()));
    }
    let (content, checksum) = bytes[..length].split_at(length - CRC);
    let found = u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]);
    let computed = crc32fast::hash(content);
    if found != computed {
        return Err(Error::Checksum(found, computed));
    }
    let word = |at: usize| content[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let (card, sequence, sent_ns) = (content[18], word(24), word(32));
    let mut payload = content[PAYLOAD..].chunks(8).zip(words(card, sequence));
    if payload.any(|(chunk, word)| *chunk != word[..chunk.len()]) {
        return Err(Error::Payload(card, sequence));
    }
    Ok(Header {
        card,
        sequence,
        sent_ns,
    })
}

/// The payload's words: a counter through a mixing function, so that neighbours share nothing.
fn words(card: u8, sequence: u64) -> impl Iterator<Item = [u8; 8]> {
    const MIX: u64 = 0xd6e8_feb8_6659_fd93;
    let mut word = sequence.rotate_left(8) ^ u64::from(card).wrapping_mul(MIX);
    std::iter::repeat_with(move || {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (word ^ (word >> 32)).wrapping_mul(MIX);
        (mixed ^ (mixed >> 29)).to_le_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TO: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const FROM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

    fn frame(length: usize, card: u8, sequence: u64, sent_ns: u64) -> Vec<u8> {
        let mut bytes = vec![0xaa; length];
        build(&mut bytes, TO, FROM, card, sequence, sent_ns).expect("a good length");
        bytes
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for length in [0, MIN_LENGTH - 1, MAX_LENGTH + 1] {
            let built = build(&mut vec![0; length], TO, FROM, 1, 0, 0);
            assert_eq!(built, Err(Error::Size(length)));
        }
        assert_eq!(check(&[0; DEFAULT_LENGTH]), Err(Error::NotOurs));
    }

    #[test]
    fn another_frames_payload_is_refused_even_with_a_good_checksum() {
        let mut bytes = frame(DEFAULT_LENGTH, 1, 7, 0);
        bytes[24..32].copy_from_slice(&8_u64.to_le_bytes());
        let end = bytes.len() - CRC;
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(check(&bytes), Err(Error::Payload(1, 8)));
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(
            length in MIN_LENGTH..=MAX_LENGTH, card: u8, sequence: u64, sent_ns: u64, behind in 0_usize..64,
        ) {
            let mut bytes = frame(length, card, sequence, sent_ns);
            bytes.extend(std::iter::repeat_n(0x5a, behind));
            prop_assert_eq!(check(&bytes), Ok(Header { card, sequence, sent_ns }));
        }

        #[test]
        fn one_flipped_bit_is_seen(length in MIN_LENGTH..=MAX_LENGTH, sequence: u64, at: prop::sample::Index) {
            let mut bytes = frame(length, 1, sequence, 99);
            let bit = at.index(length * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(&bytes).is_err());
        }

        #[test]
        fn half_a_frame_over_an_older_one_is_seen(older: u64, newer: u64, cut in 0_usize..DEFAULT_LENGTH) {
            let (old, new) = (frame(DEFAULT_LENGTH, 1, older, 1), frame(DEFAULT_LENGTH, 1, newer, 2));
            let mut bytes = old.clone();
            bytes[..cut].copy_from_slice(&new[..cut]);
            prop_assert_eq!(check(&bytes).is_ok(), bytes == old || bytes == new);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = check(&bytes);
        }
    }
}
