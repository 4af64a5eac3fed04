// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Says on stderr what is being done: spinners on a terminal, plain lines otherwise.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a step that goes on says so where there is no terminal.
const PAUSE: Duration = Duration::from_secs(30);

/// One long step. Ends with [`Step::done`]; when dropped before that, it failed.
#[derive(Debug)]
pub struct Step {
    name: String,
    begun: Instant,
    spoken: Cell<Instant>,
    bar: ProgressBar,
    outcome: &'static str,
}

impl Step {
    /// Begins a step of unknown length. `name` reads like "Unpacking Linux 7.3.4".
    pub fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let style = ProgressStyle::with_template("{spinner} {prefix} {msg:.dim} [{elapsed}]");
        let bar = ProgressBar::new_spinner().with_prefix(name.clone());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() {
            eprintln!("{name} ...");
        }
        Self {
            name,
            begun: Instant::now(),
            spoken: Cell::new(Instant::now()),
            bar,
            outcome: "failed",
        }
    }

    /// Shows how far it is; without a terminal a line every 30 seconds.
    pub fn says(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if self.bar.is_hidden() && self.spoken.get().elapsed() >= PAUSE {
            self.spoken.set(Instant::now());
            let seconds = self.begun.elapsed().as_secs();
            eprintln!("  {}: {text}, {seconds} s", self.name);
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.outcome = "done";
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let seconds = self.begun.elapsed().as_secs_f64();
        let (name, outcome) = (&self.name, self.outcome);
        eprintln!("{name}: {outcome}, {seconds:.1} s");
    }
}
