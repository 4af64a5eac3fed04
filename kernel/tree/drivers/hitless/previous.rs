// SPDX-License-Identifier: GPL-2.0-only

//! The log of the previous kernel, and how both logs are read: files in debugfs.
//!
//! It is checked as all that came, and nothing depends on it. What came can be read as long as this kernel runs.

use hitless_core::record::log::{
    Event,
    Log, //
};
use kernel::debugfs::{
    Dir,
    File,
    Writer, //
};
use kernel::fmt;
use kernel::prelude::*;

use crate::failure::Failure;
use crate::lent;
use crate::log;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static PREVIOUS: Mutex<Option<Log<lent::Incoming>>> = None;
}

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// The files, which go when their owner does: this is their owner for ever.
    pub(crate) unsafe(uninit) static FILES: Mutex<Files> = Files {
        own: None,
        previous: None,
    };
}

/// A file for each log.
pub(crate) struct Files {
    own: Option<Pin<KBox<File<ThisLog>>>>,
    previous: Option<Pin<KBox<File<PreviousLog>>>>,
}

/// The log of the previous kernel has come.
pub(crate) fn arrived(phys: u64) {
    match Log::decode(lent::Incoming::new(), phys) {
        Ok(log) => *PREVIOUS.lock() = Some(log),
        Err(error) => {
            Failure::from(error).report();
        }
    }
}

/// The file of this kernel's log.
pub(crate) struct ThisLog;

/// The file of the previous one's.
pub(crate) struct PreviousLog;

/// Each event is a line, and before the first one is said what is not there any more.
fn print(
    f: &mut fmt::Formatter<'_>,
    numbers: core::ops::Range<u64>,
    read: impl Fn(u64) -> Option<Event>,
) -> fmt::Result {
    f.write_str("# seconds since 1970 [since the start of the kernel]\n")?;
    if numbers.start != 0 {
        writeln!(f, "# {} older events were dropped", numbers.start)?;
    }
    for number in numbers {
        match read(number) {
            Some(event) => writeln!(f, "{event}")?,
            None => f.write_str("# an event that this kernel does not know\n")?,
        }
    }
    Ok(())
}

impl Writer for ThisLog {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, log::numbers(), log::read)
    }
}

impl Writer for PreviousLog {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous = PREVIOUS.lock();
        let numbers = previous.as_ref().map_or(0..0, Log::numbers);
        print(f, numbers, |number| previous.as_ref()?.event(number))
    }
}

/// Makes the files, for ever.
pub(crate) fn show() -> Result {
    let folder = Dir::new(c"hitless");
    let own = KBox::pin_init(folder.read_only_file(c"log", ThisLog), GFP_KERNEL)?;
    FILES.lock().own = Some(own);
    let came = PREVIOUS.lock().as_ref().map(Log::numbers);
    if let Some(numbers) = came {
        let file = folder.read_only_file(c"previous_log", PreviousLog);
        let previous = KBox::pin_init(file, GFP_KERNEL)?;
        FILES.lock().previous = Some(previous);
        pr_info!(
            "log of the previous kernel: {} events, in debugfs: hitless/previous_log\n",
            numbers.count()
        );
    }
    Ok(())
}
