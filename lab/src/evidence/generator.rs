// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sends numbered frames into a card's wire at a steady rate. It never sends again: what the wire does not take at its moment
//! was not sent, has no number, and is told apart. It pauses only when it is told to.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use hitless_proto::frame;
use rustix::net::sockopt;

use crate::evidence::worker::Worker;
use crate::machine::clock::{Clock, Ns, MS, SECOND};
use crate::machine::topology::Card;

/// The generator's own MAC address: locally administered.
const SOURCE: [u8; 6] = [0x52, 0x54, 0x00, 0x48, 0x4c, 0xff];
/// How much of a stream the wire holds on the reference host.
pub const DEPTH: Ns = 500 * MS;
/// What the host's kernel charges a socket for one frame.
const FRAME_COST: usize = 1280;

/// When frames were sent, in the run's clock.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Those that the wire took: the index is the sequence number.
    pub times: Vec<Ns>,
    /// When the wire was full: nothing of these has left the generator.
    pub refused: Vec<Ns>,
    /// Nothing is sent for a while.
    pub paused: bool,
}

impl Sent {
    /// Frames sent.
    pub fn count(&self) -> u64 {
        self.times.len() as u64
    }

    /// The first sequence number that was not sent before `at`.
    pub fn first_after(&self, at: Ns) -> u64 {
        self.times.partition_point(|time| *time < at) as u64
    }
}

/// A running generator.
pub type Generator = Worker<Sent>;

/// Begins at once to send so many frames per second, 1 to 20,000, to a card; the wire is to hold `depth` of them.
pub fn generate(
    mut wire: UnixStream,
    card: &Card,
    rate: u32,
    depth: Ns,
    clock: Clock,
) -> Result<Generator> {
    wire.set_nonblocking(true)
        .context("the wire can not be made non-blocking")?;
    deepen(&wire, u64::from(rate) * depth / SECOND);
    // QEMU's stream framing: four bytes of length, big-endian, before each frame.
    let mut packet = [0; 4 + frame::DEFAULT_LENGTH];
    packet[..4].copy_from_slice(&(frame::DEFAULT_LENGTH as u32).to_be_bytes());
    let start = clock.now();
    let mut tick = 0;
    let name = format!("generator of card {}", card.number);
    let (mac, card) = (card.mac_bytes(), card.number);
    Worker::start(&name, Sent::default(), move |sent| {
        let now = clock.now();
        let due = start + tick * SECOND / u64::from(rate);
        if now < due {
            return Duration::from_nanos((due - now).min(20 * MS));
        }
        tick += 1;
        if sent.paused {
            return Duration::ZERO;
        }
        let number = sent.count();
        // The length is a constant that a frame may have.
        let _ = frame::build(&mut packet[4..], mac, SOURCE, card, number, now);
        // Linux puts so few bytes into one buffer of the socket: it takes all of them or none.
        match wire.write_all(&packet) {
            Ok(()) => sent.times.push(now),
            Err(_) => sent.refused.push(now),
        }
        Duration::ZERO
    })
}

/// Makes the wire hold what comes in a while: a busy host does not run QEMU for a tenth of a second now and then, and that
/// is not the guest's doing. A card that stalls for longer than that shows.
fn deepen(wire: &UnixStream, frames: u64) {
    let frames = usize::try_from(frames).unwrap_or(usize::MAX);
    // The kernel doubles what it is told. Without the right to exceed the system's limit the limit has to do.
    let bytes = frames.saturating_mul(FRAME_COST) / 2;
    if sockopt::set_socket_send_buffer_size_force(wire, bytes).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(wire, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::profile::Profile;
    use std::io::Read;

    #[test]
    fn frames_come_in_order_and_in_time_and_what_a_full_wire_refuses_has_no_number() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let clock = Clock::start();
        let profile = Profile::load("legacy").expect("built in");
        let card = &profile.cards[0];
        let mut generator = generate(ours, card, 2000, DEPTH, clock).expect("started");
        let mut packet = [0; 4 + frame::DEFAULT_LENGTH];
        let mut next = 0;
        let mut read = || {
            theirs.read_exact(&mut packet).expect("a frame");
            let header = frame::check(&packet[4..]).expect("ours");
            assert_eq!((header.sequence, header.card), (next, 1));
            assert!(header.sent_ns >= next * SECOND / 2000);
            next += 1;
        };
        (0..100).for_each(|_| read());
        assert!(generator.lock().refused.is_empty());
        // Nobody reads any more: what comes in half a second fits, and nothing after that.
        while generator.lock().refused.len() < 3 && generator.lock().count() < 10_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let held = generator.lock().count();
        assert!(held > 100, "{held}");
        while generator.lock().count() < held + 10 {
            read();
        }
        generator.halt();
        let sent = generator.lock();
        assert!(sent.times.is_sorted() && sent.refused.is_sorted());
        assert_eq!(sent.first_after(sent.times[7]), 7);
        assert_eq!(sent.first_after(Ns::MAX), sent.count());
    }
}
