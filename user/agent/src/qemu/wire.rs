// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Integers and strings as QEMU sends them: big-endian, and with lengths that are believed only as far as bytes follow.

use crate::refusal::Refusal;

/// Reads from the front; whatever is missing is refused by the name of what was being read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    ends: fn(&'static str) -> Refusal,
}

impl<'a> Reader<'a> {
    /// `ends` makes the refusal of bytes that end too early.
    pub(super) fn new(bytes: &'a [u8], ends: fn(&'static str) -> Refusal) -> Self {
        Self { rest: bytes, ends }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Refusal> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| (self.ends)(what))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const COUNT: usize>(&mut self, what: &'static str) -> Result<[u8; COUNT], Refusal> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| (self.ends)(what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Refusal> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Refusal> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, Refusal> {
        self.array(what).map(i32::from_be_bytes)
    }
}
