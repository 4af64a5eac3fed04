// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A `cargo lab` that has ended: what it said, and how.

use std::process::ExitStatus;

use anyhow::{ensure, Result};

use super::Cannot;

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: ExitStatus,
    out: String,
    error: String,
}

impl Ended {
    /// A status, the output, and the errors.
    pub(super) fn new(status: ExitStatus, out: String, error: String) -> Self {
        Self { status, out, error }
    }

    /// What it said of its progress, and why it failed.
    pub(super) fn error(&self) -> &str {
        &self.error
    }

    /// Its last line.
    pub(super) fn closing(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// It succeeded.
    pub(super) fn is_good(&self) -> bool {
        self.status.success()
    }

    /// It has to have failed, with all of these words.
    pub(super) fn fails(&self, words: &[&str]) -> Result<()> {
        ensure!(
            self.status.code() == Some(1),
            "`cargo lab` should have failed, and ended with {}:\n{}{}",
            self.status,
            self.out,
            self.error
        );
        self.says(&self.error, words)
    }

    /// It has to have succeeded, with all of these words on its output.
    pub(super) fn succeeds(&self, words: &[&str]) -> Result<()> {
        ensure!(
            self.is_good(),
            "`cargo lab` should have succeeded, and ended with {}:\n{}{}",
            self.status,
            self.out,
            self.error
        );
        self.says(&self.out, words)
    }

    fn says(&self, text: &str, words: &[&str]) -> Result<()> {
        for word in words {
            ensure!(
                text.contains(word),
                "`cargo lab` should have said `{word}`:\n{}{}",
                self.out,
                self.error
            );
        }
        Ok(())
    }

    /// Ends a test that needs the network where there is none.
    pub(super) fn online(self) -> Result<Self> {
        if !self.is_good() {
            need_network(&self.error)?;
        }
        Ok(self)
    }
}

/// Refuses when the words are those of a run that found no network.
pub(super) fn need_network(said: &str) -> Result<(), Cannot> {
    if said.contains("check the network") {
        return Err(Cannot(format!("no Debian mirror can be reached:\n{said}")));
    }
    Ok(())
}
