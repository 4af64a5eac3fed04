// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's console: every line with the host time at which it was complete.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
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
const NO_LEAK: [&str; 3] = [
    "Kernel memory leak detector initialized",
    "Automatic memory scanning thread started",
    // It looks through the whole object then. A test that lets allocations fail sees that.
    "Cannot allocate a scan area",
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
    pub fn follow(socket: UnixStream, log: &Path, clock: Clock) -> Result<Self> {
        let console = Self::default();
        let mut log = create(log)?;
        let reader = console.clone();
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                hurry();
                for line in BufReader::new(socket).split(b'\n') {
                    let Ok(mut line) = line else { break };
                    let at = clock.now();
                    line.retain(|byte| *byte != b'\r');
                    let text = String::from_utf8_lossy(&line).into_owned();
                    // A full disk shows elsewhere too; the run goes on.
                    let _ = writeln!(log, "[{:10.3} ms] {text}", as_ms(at));
                    reader.add(at, text);
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

/// Makes a log.
pub(super) fn create(log: &Path) -> Result<File> {
    File::create(log).with_context(|| format!("{} can not be written", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_followed_and_waited_for() {
        let (socket, mut machine) = UnixStream::pair().expect("sockets");
        let log = tempfile::NamedTempFile::new().expect("a file");
        let console = Console::follow(socket, log.path(), Clock::start()).expect("a thread");
        let printer = std::thread::spawn(move || {
            for piece in ["half a ", "line\r\n\nlate", " words\n"] {
                std::thread::sleep(Duration::from_millis(20));
                machine.write_all(piece.as_bytes()).expect("written");
            }
        });
        assert!(console.wait_for("late words", Duration::from_secs(10)));
        assert!(!console.wait_for("other words", Duration::from_millis(30)));
        let lines: Vec<String> = console.lines().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["half a line", "", "late words"]);
        assert_eq!(console.tail(1), "    late words\n");
        printer.join().expect("the printer ends");
    }

    /// Lines as Linux 7.3.4 prints them. The first of a hang is kept.
    #[test]
    fn what_is_wrong_is_told_from_what_is_not() {
        let [warning, hang, fine] = [1, 2, 3];
        for (kind, line) in [
            (warning, "WARNING: CPU: 0 at drivers"),
            (
                warning,
                "WARNING: possible circular locking dependency detected",
            ),
            (warning, "INFO: trying to register non-static key."),
            (warning, "INFO: lockdep is turned off."),
            (warning, "BUG kmalloc-1k (Not tainted): Poison overwritten"),
            (
                warning,
                "list_add corruption. next->prev should be prev (ff), but was 00.",
            ),
            (warning, "pagealloc: memory corruption"),
            (
                warning,
                "kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            ),
            (
                warning,
                "kmemleak: Cannot allocate a kmemleak_object structure",
            ),
            (warning, "kmemleak: Kernel memory leak detector disabled"),
            (hang, "Kernel panic - not syncing"),
            (hang, "BUG: unable to handle"),
            (
                hang,
                "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:609",
            ),
            (hang, "BUG: MAX_LOCKDEP_CHAINS too low!"),
            (hang, "BUG: Bad page state in process init  pfn:02345"),
            (
                fine,
                "kmemleak: Kernel memory leak detector initialized (mem pool available: 14123)",
            ),
            (fine, "kmemleak: Automatic memory scanning thread started"),
            (
                fine,
                "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
            ),
            (
                fine,
                "mem auto-init: stack:off, heap alloc:off, heap free:off",
            ),
            (fine, "# hitless_golden: pass:6 fail:0 skip:0 total:6"),
        ] {
            let console = Console::default();
            console.add(1, line.to_owned());
            console.add(2, "Oops".to_owned());
            assert_eq!(!console.warnings().is_empty(), kind == warning, "{line}");
            let first = if kind == hang { line } else { "Oops" };
            assert_eq!(console.hang().as_deref(), Some(first));
        }
    }
}
