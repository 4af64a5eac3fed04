// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a virtual machine sends back for each frame that it has received: [`build`] and [`read`] side by side.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 6 | destination MAC |
//! | 6 | 6 | source MAC |
//! | 12 | 2 | ethertype, big-endian, [`ETHERTYPE`] |
//! | 14 | 2 | length of the text, little-endian |
//! | 16 | 4 | CRC-32 of the text, little-endian |
//! | 20 | n | an [`Echo`] as JSON text |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tally::Tally;

/// The second of IEEE 802's two ethertypes for local experiments.
pub const ETHERTYPE: u16 = 0x88b6;

const TEXT: usize = 20;

/// What the virtual machine says of itself after a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// The frame's sequence number.
    pub sequence: u64,
    /// The sequence number of the first frame that came.
    pub first: u64,
    /// How the frames stand, this one included.
    pub tally: Tally,
    /// Its kernel's random name of this boot.
    pub boot: String,
    /// How long its kernel runs, nanoseconds of its own clock.
    pub uptime_ns: u64,
    /// The longest time between two frames, nanoseconds of its own clock.
    pub longest_gap_ns: u64,
}

/// Why bytes are no echo.
#[derive(Debug, Error)]
pub enum Error {
    /// Another ethertype, or shorter than the fields before the text.
    #[error("not an echo: something else was sent")]
    NotOurs,
    /// The text is shorter than the echo says, or its checksum does not fit.
    #[error("the echo is damaged")]
    Damaged,
    /// The text does not say what an echo has to.
    #[error("the echo can not be read: {0}")]
    Text(#[from] serde_json::Error),
}

/// An Ethernet frame with an echo in it.
///
/// # Errors
///
/// [`Error::Text`] when the echo can not be written as JSON.
pub fn build(destination: [u8; 6], source: [u8; 6], echo: &Echo) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(echo)?;
    let length = u16::try_from(text.len()).map_err(|_| Error::Damaged)?;
    let mut frame = [&destination[..], &source, &ETHERTYPE.to_be_bytes()].concat();
    frame.extend(length.to_le_bytes());
    frame.extend(crc32fast::hash(&text).to_le_bytes());
    frame.extend(text);
    Ok(frame)
}

/// Reads what was sent; padding behind the text is not looked at.
///
/// # Errors
///
/// Any of [`enum@Error`].
pub fn read(bytes: &[u8]) -> Result<Echo, Error> {
    if bytes.len() < TEXT || bytes[12..14] != ETHERTYPE.to_be_bytes() {
        return Err(Error::NotOurs);
    }
    let length = usize::from(u16::from_le_bytes([bytes[14], bytes[15]]));
    let checksum = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    let text = bytes[TEXT..].get(..length).ok_or(Error::Damaged)?;
    if crc32fast::hash(text) != checksum {
        return Err(Error::Damaged);
    }
    Ok(serde_json::from_slice(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn echo(sequence: u64) -> Echo {
        Echo {
            sequence,
            boot: "8e2bf4ed-7a5c-4b0f-9a60-0b1a5d1f3c11".to_owned(),
            uptime_ns: u64::MAX,
            ..Echo::default()
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(sequence: u64, padding in 0_usize..64) {
            let mut bytes = build([1; 6], [2; 6], &echo(sequence)).expect("an echo");
            prop_assert!(bytes.len() < crate::frame::MAX_LENGTH);
            bytes.extend(std::iter::repeat_n(0, padding));
            prop_assert_eq!(read(&bytes).expect("readable"), echo(sequence));
        }

        #[test]
        fn one_flipped_bit_is_seen(at: prop::sample::Index) {
            let mut bytes = build([1; 6], [2; 6], &echo(7)).expect("an echo");
            // Whose address it is, is not looked at.
            let bit = 96 + at.index(bytes.len() * 8 - 96);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
    }
}
