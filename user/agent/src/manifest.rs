// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of a VM has to be known after the jump, beyond its files: the state that `hitless_vmm` keeps for its user.
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic: the bytes `hitlqemu`
//!      8      4  version, little-endian like all that follows: 1
//!     12      4  user who gave the VM
//!     16      4  group of that user
//!     20      4  n, bytes of the cpr state
//!     24      4  m, descriptors in the cpr state
//!     28      n  the cpr state, as QEMU has written it
//!   28+n      m  what each descriptor is, one byte each: 1 memory, 2 iommufd, 3 device file, 4 eventfd
//! 28+n+m         the migration stream, to the end
//! ```
//!
//! It has no checksum of its own, because what it is kept in has one. Both streams are read by the same code that has read
//! them from QEMU, so nothing is believed here that was not believed there.

use crate::qemu::roles::{Kind, Parts};
use crate::qemu::state::{State, MAX_STATE};
use crate::qemu::stream::{Stream, MAX_STREAM};
use crate::refusal::Refusal;
use crate::socket::Owner;

const MAGIC: &[u8; 8] = b"hitlqemu";
const VERSION: u32 = 1;
const HEAD: usize = 28;

// All that is accepted from a QEMU can be kept.
const _: () = assert!(HEAD + MAX_STATE * 2 + MAX_STREAM <= hitless_vmm::MAX_STATE);

/// A VM without its descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    owner: Owner,
    state: State,
    kinds: Vec<Kind>,
    parts: Parts,
    stream: Stream,
}

impl Manifest {
    /// Puts together what is known of a VM.
    ///
    /// # Errors
    ///
    /// As [`Parts::of`].
    pub fn new(
        owner: Owner,
        state: State,
        kinds: Vec<Kind>,
        stream: Stream,
    ) -> Result<Self, Refusal> {
        let parts = Parts::of(&state, &kinds)?;
        Ok(Self {
            owner,
            state,
            kinds,
            parts,
            stream,
        })
    }

    /// Who gave the VM.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The names of its descriptors, and the ids of its devices.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What each descriptor is, in the order of the state's entries.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The entries by what they are.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Everything else.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The same with another state, of the same entries and devices: that with new ids.
    ///
    /// # Errors
    ///
    /// As [`Parts::of`].
    pub fn with_state(self, state: State) -> Result<Self, Refusal> {
        Self::new(self.owner, state, self.kinds, self.stream)
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let state = self.state.encode().bytes;
        let mut bytes = MAGIC.to_vec();
        // CAST: state and entries have limits far below.
        let lengths = [state.len() as u32, self.kinds.len() as u32];
        let Owner { uid, gid } = self.owner;
        for number in [VERSION, uid, gid].into_iter().chain(lengths) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(state);
        bytes.extend(self.kinds.iter().map(code));
        bytes.extend(self.stream.bytes());
        bytes
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`Refusal::Manifest`], [`Refusal::ManifestVersion`], and whatever is refused of a QEMU.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let (magic, rest) = split::<8>(bytes)?;
        if magic != *MAGIC {
            return Err(Refusal::Manifest("it has another head"));
        }
        let (version, mut rest) = number(rest)?;
        if version != VERSION {
            return Err(Refusal::ManifestVersion(version));
        }
        let mut numbers = [0; 4];
        for place in &mut numbers {
            (*place, rest) = number(rest)?;
        }
        let [uid, gid, length, count] = numbers;
        let (state, rest) = take(rest, length)?;
        let (kinds, stream) = take(rest, count)?;
        let kinds: Option<Vec<Kind>> = kinds.iter().map(|code| kind(*code)).collect();
        let kinds = kinds.ok_or(Refusal::Manifest("a descriptor is nothing that is known"))?;
        let stream = Stream::new(stream.to_vec())?;
        Self::new(Owner { uid, gid }, State::parse(state)?, kinds, stream)
    }
}

/// What cannot be handed through an update is in no manifest, so it needs no code that can be read again.
fn code(kind: &Kind) -> u8 {
    match kind {
        Kind::Other(_) => 0,
        Kind::Memory => 1,
        Kind::Iommufd => 2,
        Kind::Device => 3,
        Kind::Eventfd => 4,
    }
}

fn kind(code: u8) -> Option<Kind> {
    match code {
        1 => Some(Kind::Memory),
        2 => Some(Kind::Iommufd),
        3 => Some(Kind::Device),
        4 => Some(Kind::Eventfd),
        _ => None,
    }
}

const CUT: Refusal = Refusal::Manifest("it ends early");

fn split<const COUNT: usize>(bytes: &[u8]) -> Result<([u8; COUNT], &[u8]), Refusal> {
    let (head, rest) = bytes.split_first_chunk().ok_or(CUT)?;
    Ok((*head, rest))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), Refusal> {
    let (head, rest) = split(bytes)?;
    Ok((u32::from_le_bytes(head), rest))
}

fn take(bytes: &[u8], count: u32) -> Result<(&[u8], &[u8]), Refusal> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    bytes.split_at_checked(count).ok_or(CUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::golden::{plain_main, PLAIN};

    /// The golden VM without a device.
    fn golden() -> Manifest {
        let state = State::parse(PLAIN).expect("a state");
        let kinds = vec![Kind::Memory; state.entries().len()];
        let stream = Stream::new(plain_main()).expect("a stream");
        let owner = Owner {
            uid: 7,
            gid: 0x0109,
        };
        Manifest::new(owner, state, kinds, stream).expect("a manifest")
    }

    #[test]
    fn its_bytes_are_those_of_version_1() {
        let head = b"hitlqemu\x01\0\0\0\x07\0\0\0\x09\x01\0\0\xb9\0\0\0\x06\0\0\0";
        let bytes = [head, PLAIN, &[1; 6], &plain_main()].concat();
        assert_eq!(golden().encode(), bytes);
        assert_eq!(Manifest::decode(&bytes), Ok(golden()));
    }

    #[test]
    fn what_is_not_known_or_not_whole_is_refused() {
        let good = golden().encode();
        let cases = [
            (0, b'X', "another head"),
            (8, 2, "version 2"),
            (20, 0xb8, "nothing that is known"),
            (22, 0xff, "ends early"),
            // The stream begins a byte too early then.
            (24, 5, "another head"),
            (28 + 185, 0, "nothing that is known"),
            (28 + 185, 4, "an eventfd, but its name"),
            (28, 0, "not the state of a QEMU"),
            (28 + 191, 0, "another head"),
        ];
        for (at, byte, words) in cases {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let refusal = Manifest::decode(&bytes).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal:?} lacks {words:?}");
        }
        for length in (0..300).chain([good.len() - 1]) {
            assert!(Manifest::decode(&good[..length]).is_err(), "{length}");
        }
    }
}
