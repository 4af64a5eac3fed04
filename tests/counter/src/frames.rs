// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames in, echoes out, over a packet socket.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result};
use hitless_proto::echo::{self, Echo};
use hitless_proto::frame;
use hitless_proto::tally::Tally;
use rustix::fd::OwnedFd;
use rustix::net::{recvfrom, sendto, socket_with, sockopt};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::time::{clock_gettime, ClockId};

/// What comes while this program does not run: a full ring, at what the kernel charges for a frame.
const BUFFER: usize = 4096 * 2304;

/// A socket that gets the lab's frames from every interface.
pub(crate) fn socket() -> Result<OwnedFd> {
    let kind = u32::from(frame::ETHERTYPE.to_be());
    let kind = kind.try_into().ok().map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, kind);
    let socket = socket.context("a packet socket")?;
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).context("the socket's buffer")?;
    Ok(socket)
}

/// Counts and answers for as long as the virtual machine runs.
pub(crate) fn answer(socket: &OwnedFd, boot: &str) -> Result<Infallible> {
    let mut buffer = [0; 2048];
    let mut count = Count::default();
    loop {
        let (length, _, from) =
            recvfrom(socket, &mut buffer[..], RecvFlags::empty()).context("receiving")?;
        let bytes = &buffer[..length];
        let Some(sequence) = count.take(bytes, uptime()) else {
            println!("counter: not the lab's frame: {:?}", frame::check(bytes));
            continue;
        };
        if count.tally.received == 1 {
            println!("counter: the first frame is {sequence}");
        }
        let echo = count.echo(sequence, boot);
        let (to, from_mac) = addresses(bytes);
        let reply = echo::build(to, from_mac, &echo).context("an echo")?;
        // The answer goes where the frame came from. One that the card does not take is missing among the lab's.
        if let Some(from) = from {
            if let Err(error) = sendto(socket, &reply, SendFlags::empty(), &from) {
                println!("counter: frame {sequence} was not answered: {error}");
            }
        }
    }
}

/// A frame's source, and its destination.
fn addresses(bytes: &[u8]) -> ([u8; 6], [u8; 6]) {
    let part = |at: usize| bytes[at..at + 6].try_into().unwrap_or_default();
    (part(6), part(0))
}

fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    now.try_into().unwrap_or_default()
}

/// How the frames stand.
#[derive(Debug, Default)]
struct Count {
    /// Card and number of the first.
    first: Option<(u8, u64)>,
    tally: Tally,
    last: Duration,
    longest_gap: Duration,
}

impl Count {
    /// Counts what came, and tells the number of a good frame of the card that the first one was of.
    fn take(&mut self, bytes: &[u8], now: Duration) -> Option<u64> {
        let checked = frame::check(bytes);
        let header = checked.as_ref().ok().copied();
        let (card, _) = match (self.first, header) {
            (Some(first), _) => first,
            (None, Some(header)) => *self.first.insert((header.card, header.sequence)),
            (None, None) => (0, 0),
        };
        self.tally.count(card, &checked);
        let header = header.filter(|header| header.card == card)?;
        if self.tally.received > 1 {
            self.longest_gap = self.longest_gap.max(now.saturating_sub(self.last));
        }
        self.last = now;
        Some(header.sequence)
    }

    fn echo(&self, sequence: u64, boot: &str) -> Echo {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Echo {
            sequence,
            first: self.first.map_or(0, |(_, sequence)| sequence),
            tally: self.tally,
            boot: boot.to_owned(),
            uptime_ns: nanoseconds(self.last),
            longest_gap_ns: nanoseconds(self.longest_gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_and_the_longest_gap_is_kept() {
        let frame = |card: u8, sequence: u64| {
            let mut bytes = vec![0; frame::DEFAULT_LENGTH];
            frame::build(&mut bytes, [1; 6], [2; 6], card, sequence, 0).expect("a frame");
            bytes
        };
        let mut count = Count::default();
        assert_eq!(count.take(&[0; 60], Duration::ZERO), None);
        for (ms, card, sequence, taken) in [
            (900, 3, 7, Some(7)),
            (910, 3, 8, Some(8)),
            (915, 4, 9, None),
            (960, 3, 11, Some(11)),
            (970, 3, 12, Some(12)),
        ] {
            let bytes = frame(card, sequence);
            assert_eq!(count.take(&bytes, Duration::from_millis(ms)), taken);
        }
        let echo = count.echo(12, "b");
        assert_eq!((echo.first, echo.sequence), (7, 12));
        let Tally {
            received,
            lost,
            corrupt,
            ..
        } = echo.tally;
        assert_eq!((received, lost, corrupt), (4, 2, 2));
        assert_eq!(
            (echo.uptime_ns, echo.longest_gap_ns),
            (970_000_000, 50_000_000)
        );
        assert_eq!(addresses(&frame(1, 1)), ([2; 6], [1; 6]));
    }
}
