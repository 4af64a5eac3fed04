// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which call failed, on what, with which errno.

use rustix::io::Errno;

/// The result of every call.
pub type Result<T> = std::result::Result<T, Error>;

/// A call that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}{}: {errno}", about(.subject))]
pub struct Error {
    /// The call by its C name: `IOMMU_HWPT_ALLOC`.
    pub call: &'static str,
    /// What it was called on, where there is more to say than the call's name: a path, a session's name.
    pub subject: String,
    /// Why the kernel refused it. It is part of the message, so it is not the error's source as well.
    pub errno: Errno,
}

fn about(subject: &str) -> String {
    if subject.is_empty() {
        String::new()
    } else {
        format!(" ({subject})")
    }
}

impl Error {
    /// For a call that needs no more words.
    pub fn new(call: &'static str, errno: Errno) -> Self {
        Self {
            call,
            subject: String::new(),
            errno,
        }
    }

    /// For a call on something that has a name.
    pub fn on(call: &'static str, subject: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            subject: subject.into(),
            errno,
        }
    }

    /// For a call made through the standard library.
    pub fn from_io(call: &'static str, subject: impl Into<String>, error: &std::io::Error) -> Self {
        Self::on(
            call,
            subject,
            Errno::from_io_error(error).unwrap_or(Errno::IO),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_call_and_the_subject() {
        let plain = Error::new("IOMMU_DESTROY", Errno::BUSY).to_string();
        assert!(plain.starts_with("IOMMU_DESTROY: "), "{plain}");
        let named = Error::on("open", "/dev/iommu", Errno::NOENT).to_string();
        assert!(named.starts_with("open (/dev/iommu): "), "{named}");
    }
}
