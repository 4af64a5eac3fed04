// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests for interrupts that devices make by DMA, as the IOMMU's unit sees them.

use std::io::{self, BufRead};

use crate::evidence::iommu::request;
use crate::evidence::trace::stamped;
use crate::machine::clock::{Clock, Ns};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When the unit read the entry for it.
    pub at: Ns,
    /// The entry that it names.
    pub entry: u32,
    /// There is such an entry, and an interrupt is made.
    pub granted: bool,
}

/// The requests in a trace, in their order.
///
/// # Errors
///
/// The trace cannot be read.
pub fn read(trace: impl BufRead, clock: Clock) -> io::Result<Vec<Request>> {
    let mut requests = Vec::new();
    for line in trace.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some((us, rest)) = stamped(&line) else {
            continue;
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        if let Some((entry, granted)) = request(&words) {
            requests.push(Request {
                at: clock.of_unix_us(us),
                entry,
                granted,
            });
        }
    }
    Ok(requests)
}
