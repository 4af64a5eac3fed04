// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test is.

use std::cell::Cell;

use anyhow::Result;
use hitless_lab::build::kernel::config::Config;
use hitless_lab::machine::parts::Parts;
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::play::scene::{Plan, Scene};

/// How a test ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It showed what it should.
    Passed,
    /// It can not be run here, for this reason.
    Skipped(String),
}

/// What tests get.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The test's kernel and its root file system.
    pub(crate) parts: Parts,
    /// Keep all logs.
    pub(crate) keep: bool,
    /// The most frames per second that a test may send.
    pub(crate) most: Cell<u32>,
}

impl Bench {
    /// Boots the machine of a test.
    ///
    /// # Errors
    ///
    /// As [`Scene::boot`].
    pub(crate) fn boot(&self, plan: Plan) -> Result<Scene> {
        let rate = plan.rate.capped(self.most.get());
        Scene::boot(Plan { rate, ..plan }, &self.parts)
    }
}

/// What a test does on a bench.
pub(crate) type OnBench = Box<dyn Fn(&Bench) -> Result<End>>;

/// What a test does; it fails by an error.
pub(crate) enum Run {
    /// On a machine of this profile, with this kernel.
    Machine(&'static str, Config, OnBench),
    /// With neither machine nor kernel.
    Alone(Box<dyn Fn() -> Result<End>>),
}

/// A test that needs more than the host's tests do.
pub(crate) struct Test {
    /// `group::what`.
    pub(crate) name: String,
    /// What it shows, in one line.
    pub(crate) about: String,
    /// It takes so long that it is run only when all are, or when it is asked for.
    pub(crate) is_long: bool,
    pub(crate) run: Run,
}

impl Test {
    /// A test on a machine.
    pub(crate) fn new(
        name: impl Into<String>,
        profile: &'static str,
        about: impl Into<String>,
        run: impl Fn(&Bench) -> Result<End> + 'static,
    ) -> Self {
        Self::with_kernel(Config::Hitless, name, profile, about, run)
    }

    /// A test on a machine with a kernel of its own.
    pub(crate) fn with_kernel(
        config: Config,
        name: impl Into<String>,
        profile: &'static str,
        about: impl Into<String>,
        run: impl Fn(&Bench) -> Result<End> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            is_long: false,
            run: Run::Machine(profile, config, Box::new(run)),
        }
    }

    /// A test that needs no machine.
    pub(crate) fn alone(
        name: impl Into<String>,
        about: impl Into<String>,
        run: impl Fn() -> Result<End> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            is_long: false,
            run: Run::Alone(Box::new(run)),
        }
    }

    /// The same test, as a long one.
    pub(crate) fn long(self) -> Self {
        Self {
            is_long: true,
            ..self
        }
    }

    /// The kernel that it needs.
    pub(crate) fn kernel(&self) -> Option<Config> {
        match self.run {
            Run::Machine(_, config, _) => Some(config),
            Run::Alone(_) => None,
        }
    }
}

/// One of the same test in each table format: all but the first are long.
pub(crate) fn unless_first(profile: &str, test: Test) -> Test {
    if TABLE_FORMATS.first() == Some(&profile) {
        test
    } else {
        test.long()
    }
}
