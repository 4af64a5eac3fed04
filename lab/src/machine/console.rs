// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's console: every line with the host time at which it was complete.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::clock::{as_ms, Clock, Ns};
use crate::machine::priority::hurry;

/// Lines after which nothing good comes any more: they end a run.
const HANGS: [&str; 9] = [
    "Kernel panic",
    "BUG:",
    "Oops",
    "general protection fault",
    "rcu: INFO",
    "RCU stall",
    "KASAN:",
    "soft lockup",
    "blocked for more than",
];

/// Lines that are wrong but let a kernel go on. Lockdep's reports are among those that begin with the first.
const WARNINGS: [&str; 6] = [
    "WARNING:",
    "INFO: possible",
    "INFO: trying to register non-static key",
    "INFO: lockdep is turned off",
    "list_add corruption",
    "pagealloc:",
];

/// The leak detector says that it is there and at work, and nothing more as long as all is well.
const LEAKS: &str = "kmemleak:";
const NO_LEAK: [&str; 2] = [
    "Kernel memory leak detector initialized",
    "Automatic memory scanning thread started",
];

/// Whether a line is wrong but lets a kernel go on.
fn is_warning(text: &str) -> bool {
    WARNINGS.iter().any(|warning| text.contains(warning))
        || text.contains(LEAKS) && !NO_LEAK.iter().any(|harmless| text.contains(harmless))
        // The slab allocator, of an object that was written to after it was freed: no colon, but a cache's name.
        || text.starts_with("BUG ")
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was complete.
    pub at: Ns,
    /// What it says.
    pub text: String,
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    lines: Vec<Line>,
    hang: Option<String>,
    warnings: Vec<String>,
    ended: bool,
}

/// The console of a running machine. Clones look at the same one.
#[derive(Clone, Debug, Default)]
pub struct Console {
    seen: Arc<Mutex<Seen>>,
}

impl Console {
    /// Follows a socket until it is closed, and writes what comes to `log`.
    pub fn follow(mut socket: UnixStream, log: &Path, clock: Clock) -> Result<Self> {
        let console = Self::default();
        let mut log =
            File::create(log).with_context(|| format!("{} can not be written", log.display()))?;
        let reader = console.clone();
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                hurry();
                let mut splitter = Splitter::default();
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut bytes) {
                    let at = clock.now();
                    for text in splitter.push(&bytes[..count]) {
                        // A full disk shows elsewhere too; the run goes on.
                        let _ = writeln!(log, "[{:10.3} ms] {text}", as_ms(at));
                        reader.add(at, text);
                    }
                }
                reader.end();
            })
            .context("no thread for the console")?;
        Ok(console)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn add(&self, at: Ns, text: String) {
        let mut seen = self.lock();
        if seen.hang.is_none() && HANGS.iter().any(|hang| text.contains(hang)) {
            seen.hang = Some(text.clone());
        }
        if is_warning(&text) {
            seen.warnings.push(text.clone());
        }
        seen.lines.push(Line { at, text });
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The first line that means the kernel is done for.
    pub fn hang(&self) -> Option<String> {
        self.lock().hang.clone()
    }

    /// The kernel's warnings.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().warnings.clone()
    }

    /// The machine has closed its console: it is gone.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether a line contains `words`.
    pub fn says(&self, words: &str) -> bool {
        self.lock()
            .lines
            .iter()
            .any(|line| line.text.contains(words))
    }

    /// Waits until a line contains `words`. What the kernel prints may come later than the answer of the program that
    /// made it print.
    pub fn wait_for(&self, words: &str, limit: Duration) -> bool {
        let start = Instant::now();
        while !self.says(words) {
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// The last lines, for an error.
    pub fn tail(&self, count: usize) -> String {
        let seen = self.lock();
        let from = seen.lines.len().saturating_sub(count);
        seen.lines[from..]
            .iter()
            .map(|line| format!("    {}\n", line.text))
            .collect()
    }
}

/// Cuts bytes into lines; an unfinished one waits for its end.
#[derive(Debug, Default)]
struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    lines.push(String::from_utf8_lossy(&self.rest).into_owned());
                    self.rest.clear();
                }
                b'\r' => {}
                other => self.rest.push(other),
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together() {
        let mut splitter = Splitter::default();
        assert!(splitter.push(b"half a ").is_empty());
        assert_eq!(splitter.push(b"line\r\n\nx"), ["half a line", ""]);
    }

    #[test]
    fn a_line_that_comes_late_is_waited_for() {
        let console = Console::default();
        let late = console.clone();
        let printer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            late.add(1, "hitless: late words".to_owned());
        });
        assert!(console.wait_for("late words", Duration::from_secs(10)));
        assert!(!console.wait_for("other words", Duration::from_millis(30)));
        printer.join().expect("the printer ends");
    }

    #[test]
    fn a_panic_is_a_hang_and_a_warning_is_not() {
        let console = Console::default();
        console.add(1, "WARNING: CPU: 0 at drivers".to_owned());
        assert_eq!((console.hang(), console.warnings().len()), (None, 1));
        for line in ["Kernel panic - not syncing", "BUG: unable to handle"] {
            console.add(2, line.to_owned());
        }
        assert_eq!(
            console.hang().as_deref(),
            Some("Kernel panic - not syncing")
        );
        assert_eq!(console.tail(1), "    BUG: unable to handle\n");
    }

    /// Lines as Linux 7.3.4 prints them.
    #[test]
    fn every_report_of_a_debug_kernel_is_wrong() {
        for line in [
            "WARNING: possible circular locking dependency detected",
            "WARNING: possible recursive locking detected",
            "WARNING: inconsistent lock state",
            "WARNING: suspicious RCU usage",
            "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
            "WARNING: lock held when returning to user space!",
            "WARNING: bad unlock balance detected!",
            "WARNING: mm/page_alloc.c:4723 at __alloc_frozen_pages_noprof+0x2a/0x9d0, CPU#1: init/1",
            "INFO: trying to register non-static key.",
            "INFO: lockdep is turned off.",
            "BUG kmalloc-1k (Not tainted): Poison overwritten",
            "list_add corruption. next->prev should be prev (ff), but was 00.",
            "pagealloc: memory corruption",
            "kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "kmemleak: Cannot allocate a kmemleak_object structure",
            "kmemleak: Kernel memory leak detector disabled",
        ] {
            assert!(is_warning(line), "{line}");
        }
        for line in [
            "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:609",
            "BUG: scheduling while atomic: init/1/0x00000002",
            "BUG: MAX_LOCKDEP_CHAINS too low!",
            "BUG: Bad page state in process init  pfn:02345",
        ] {
            let console = Console::default();
            console.add(1, line.to_owned());
            assert_eq!(console.hang().as_deref(), Some(line));
        }
        for line in [
            "kmemleak: Kernel memory leak detector initialized (mem pool available: 14123)",
            "kmemleak: Automatic memory scanning thread started",
            "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
            "mem auto-init: stack:off, heap alloc:off, heap free:off",
            "# hitless_golden: pass:6 fail:0 skip:0 total:6",
        ] {
            assert!(!is_warning(line), "{line}");
        }
    }
}
