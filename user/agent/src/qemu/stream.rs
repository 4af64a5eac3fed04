// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stream on the main channel: everything of the VM but its memory and its descriptors.
//!
//! The next QEMU gets it as it came. It is only looked at for two things: which machine it is of, so that somebody who asks
//! can be told, and whether it is whole, because a VM of which half was sent must not be given up by its old QEMU.

use super::state::Name;
use super::version::{CONFIGURATION, DESCRIPTION, END_OF_SECTIONS, MAIN_MAGIC, MAIN_VERSION};
use super::wire::Reader;
use crate::refusal::Refusal;

/// Bytes of a main stream. One of a small VM has 80,000, and devices with much state of their own have a few million.
pub const MAX_STREAM: usize = 60 << 20;

/// No head is longer than this, and no stream shorter.
const HEAD: usize = 512;

/// A stream that is whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Stream {
    bytes: Vec<u8>,
    machine: Name,
}

impl Stream {
    /// Checks head and end of a stream.
    ///
    /// # Errors
    ///
    /// [`Refusal::MainStream`], [`Refusal::MainVersion`], [`Refusal::MainCut`], [`Refusal::TooLong`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, Refusal> {
        if bytes.len() > MAX_STREAM {
            return Err(Refusal::TooLong {
                what: "the migration stream",
                limit: MAX_STREAM,
            });
        }
        let (machine, rest) = Self::head(&bytes)?;
        if !is_whole(rest) {
            return Err(Refusal::MainCut);
        }
        Ok(Self { bytes, machine })
    }

    /// Checks the head of a stream of which only so much has come. While more comes, its QEMU can still go on with the VM.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub(crate) fn check_head(bytes: &[u8]) -> Result<(), Refusal> {
        match bytes.len() {
            0..HEAD => Ok(()),
            _ => Self::head(bytes).map(drop),
        }
    }

    /// The machine, and what comes behind its name.
    fn head(bytes: &[u8]) -> Result<(Name, &[u8]), Refusal> {
        let mut from = Reader::new(bytes, Refusal::MainStream);
        if from.u32("it has no head")? != MAIN_MAGIC {
            return Err(Refusal::MainStream("it has another head"));
        }
        match from.u32("it has no version")? {
            MAIN_VERSION => {}
            version => return Err(Refusal::MainVersion(version)),
        }
        if from.u8("it names no machine")? != CONFIGURATION {
            return Err(Refusal::MainStream("it names no machine"));
        }
        let length = usize::try_from(from.u32("it names no machine")?).unwrap_or(usize::MAX);
        let machine = Name::new(from.bytes(length, "it names no machine")?)?;
        Ok((machine, from.rest()))
    }

    /// The machine with its version, as QEMU's `-machine help` lists it.
    pub fn machine(&self) -> &Name {
        &self.machine
    }

    /// The stream as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A stream has megabytes that nobody wants to read.
impl std::fmt::Debug for Stream {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} bytes of {}", self.bytes.len(), self.machine)
    }
}

/// Whether bytes end as a stream does: with the end of its sections, and a description whose length is that of the rest.
///
/// Sections have no lengths, so the way there is not known without knowing every device. But no cut stream has a length
/// that fits where it was cut, followed by the beginning of JSON.
fn is_whole(bytes: &[u8]) -> bool {
    const HEAD: usize = 6;
    let mut at = bytes.len().saturating_sub(HEAD);
    loop {
        if let Some(&[END_OF_SECTIONS, DESCRIPTION, a, b, c, d]) = bytes.get(at..at + HEAD) {
            let text = &bytes[at + HEAD..];
            let length = u32::from_be_bytes([a, b, c, d]);
            if usize::try_from(length) == Ok(text.len()) && text.first() == Some(&b'{') {
                return true;
            }
        }
        match at.checked_sub(1) {
            Some(before) => at = before,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::golden::plain_main;

    #[test]
    fn a_recorded_stream_names_its_machine() {
        let bytes = plain_main();
        let stream = Stream::new(bytes.clone()).expect("a stream");
        assert_eq!(stream.machine().as_str(), "pc-q35-11.1");
        assert_eq!(stream.bytes(), bytes);
        assert_eq!(format!("{stream:?}"), "77487 bytes of pc-q35-11.1");
    }

    #[test]
    fn a_stream_that_was_cut_is_refused_wherever_it_was_cut() {
        let bytes = plain_main();
        for length in (0..bytes.len())
            .step_by(211)
            .chain(bytes.len() - 64..bytes.len())
        {
            let refusal = Stream::new(bytes[..length].to_vec()).unwrap_err();
            let known = matches!(refusal, Refusal::MainStream(_) | Refusal::MainCut);
            assert!(known, "{length}: {refusal}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        let cases = [
            (0, b'q', "another head"),
            (7, 4, "version 4, which"),
            (8, 1, "names no machine"),
            (9, 1, "names no machine"),
            (13, b'\n', "not printable"),
        ];
        for (at, byte, words) in cases {
            let mut bytes = plain_main();
            bytes[at] = byte;
            let refusal = Stream::new(bytes).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal:?} lacks {words:?}");
        }
    }

    #[test]
    fn a_head_is_refused_as_soon_as_it_is_there() {
        let mut bytes = plain_main();
        bytes[7] = 4;
        assert!(Stream::check_head(&bytes[..HEAD - 1]).is_ok());
        let refusal = Stream::check_head(&bytes[..HEAD]).unwrap_err();
        assert_eq!(refusal, Refusal::MainVersion(4));
        assert!(Stream::check_head(&plain_main()[..HEAD]).is_ok());
    }

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let mut bytes = plain_main();
        bytes.push(0);
        assert_eq!(Stream::new(bytes).unwrap_err(), Refusal::MainCut);
    }
}
