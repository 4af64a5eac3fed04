// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors for people: what is wrong, and what to do about it.

/// An error that names its cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}\n  what to do: {remedy}")]
pub struct Trouble {
    /// What went wrong, with names and figures.
    pub cause: String,
    /// What the user can do.
    pub remedy: String,
}

impl Trouble {
    /// Makes one of anything that can be text.
    pub fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

/// Shorthand for `Err(Trouble)` as an anyhow result.
pub fn trouble<T>(cause: impl Into<String>, remedy: impl Into<String>) -> anyhow::Result<T> {
    Err(Trouble::new(cause, remedy).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_cause_and_remedy() {
        let text = Trouble::new("no network", "connect").to_string();
        assert!(text.contains("no network") && text.contains("what to do: connect"));
    }
}
