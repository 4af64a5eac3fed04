// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU and the threads that watch it go before whatever else the host does: frames are counted, and those that a busy
//! host delays may not look like those that the guest loses. Without the right to do so it is done without.

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value of a machine and of what watches it.
const PRIORITY: i32 = -15;

/// Puts the calling thread first for good: for one that does nothing but watch. Linux has a nice value for each thread.
pub fn hurry() {
    let _ = setpriority_process(None, PRIORITY);
}

/// Puts the calling thread first while it does this: what it starts meanwhile inherits that and keeps it.
pub fn hurried<T>(act: impl FnOnce() -> T) -> T {
    let before = getpriority_process(None);
    hurry();
    let result = act();
    if let Ok(before) = before {
        // To go back is always allowed.
        let _ = setpriority_process(None, before);
    }
    result
}

#[test]
fn only_what_is_started_meanwhile_keeps_the_priority() {
    let own = || getpriority_process(None).expect("a nice value");
    let before = own();
    let start = || std::thread::spawn(own).join().expect("no panic");
    let (meanwhile, started) = hurried(|| (own(), start()));
    assert_eq!(started, meanwhile);
    assert_eq!((own(), start()), (before, before));
}
