// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A PCI function's address: `0000:01:00.0` and one number.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Domain, bus, device and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bdf(u32);

/// Text that is not a PCI function's address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not the address of a PCI function: write it as 0000:01:00.0")]
pub struct BadBdf(pub String);

impl Bdf {
    /// From the number of [`Bdf::number`].
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Domain in bits 16 to 31, bus in 8 to 15, device in 3 to 7, function in 0 to 2.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Bdf {
    type Err = BadBdf;

    fn from_str(text: &str) -> Result<Self, BadBdf> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let part = |part: &str, digits: usize, below: u32| {
                let hex = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = u32::from_str_radix(part, 16)
                    .ok()
                    .filter(|number| hex && *number < below)?;
                Some(number)
            };
            Some(
                part(domain, 4, 1 << 16)? << 16
                    | part(bus, 2, 1 << 8)? << 8
                    | part(device, 2, 1 << 5)? << 3
                    | part(function, 1, 1 << 3)?,
            )
        };
        parse().map(Self).ok_or_else(|| BadBdf(text.to_owned()))
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            number >> 16,
            number >> 8 & 0xff,
            number >> 3 & 0x1f,
            number & 7
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "01:00.0",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "+000:01:00.0",
            "0000:01:00.0 ",
        ] {
            assert_eq!(text.parse::<Bdf>(), Err(BadBdf(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn text_and_number_agree(number: u32) {
            prop_assert_eq!(Bdf::from_number(number).to_string().parse(), Ok(Bdf::from_number(number)));
        }
    }
}
