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
        let mut parts = text
            .split([':', '.'])
            .map(|part| u16::from_str_radix(part, 16).ok().map(u32::from));
        let mut next = || parts.next().flatten();
        let mut number = || Some(next()? << 16 | next()? << 8 | next()? << 3 | next()?);
        // Only what is written as it is shown is one: with so many digits, and no part larger than it may be.
        number()
            .map(Self)
            .filter(|bdf| bdf.to_string() == text)
            .ok_or_else(|| BadBdf(text.to_owned()))
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [domain, bus, device] = [self.0 >> 16, self.0 >> 8 & 0xff, self.0 >> 3 & 0x1f];
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{:x}", self.0 & 7)
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
