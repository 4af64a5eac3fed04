// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Says on stderr what is being done: bars and spinners on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One long step. Ends with [`Step::done`]; when dropped before that, it failed.
#[derive(Debug)]
pub struct Step {
    name: String,
    begun: Instant,
    bar: Option<ProgressBar>,
    spoken: Instant,
    finished: bool,
}

impl Step {
    /// Begins a step of unknown length. `name` reads like "Unpacking Linux 7.3.4".
    pub fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("{spinner} {prefix} {msg:.dim} [{elapsed}]"));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{name} ...");
        }
        let now = Instant::now();
        Self {
            name,
            begun: now,
            bar,
            spoken: now,
            finished: false,
        }
    }

    /// Shows `position` of `total`; without a terminal a line every 30 seconds.
    pub fn at(&mut self, position: u64, total: u64, unit: &str) {
        let total = total.max(position);
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(
                    "{spinner} {prefix} {bar:30} {pos}/{len} {msg:.dim} [{elapsed}]",
                ));
                bar.set_length(total);
                bar.set_position(position);
                bar.set_message(unit.to_owned());
            }
            None if self.spoken.elapsed() >= Duration::from_secs(30) => {
                self.spoken = Instant::now();
                eprintln!(
                    "  {}: {position} of about {total} {unit}, {} s",
                    self.name,
                    self.begun.elapsed().as_secs()
                );
            }
            None => {}
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.finished = true;
        let seconds = self.begun.elapsed().as_secs_f64();
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("{}: done, {seconds:.1} s", self.name);
            }
            None => eprintln!("  done, {seconds:.1} s"),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("{}: failed", self.name);
            }
            None => eprintln!("  failed"),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
