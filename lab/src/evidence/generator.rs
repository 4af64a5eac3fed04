// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sends numbered frames into a card's wire at a steady rate. It never sends again: what the wire does not take at its moment
//! was not sent, has no number, and is told apart. It pauses only when it is told to.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use hitless_proto::frame;
use rustix::net::sockopt;

use crate::machine::clock::{Clock, Ns, MS, SECOND};
use crate::machine::priority::hurry;

/// The generator's own MAC address: locally administered.
const SOURCE: [u8; 6] = [0x52, 0x54, 0x00, 0x48, 0x4c, 0xff];
/// How much of a stream the wire holds on the reference host.
pub const DEPTH: Ns = 500 * MS;
/// What the host's kernel charges a socket for one frame.
const FRAME_COST: usize = 1280;
/// How long the last bytes of a frame may take when the generator is stopped.
const LAST_BYTES: Ns = 200 * MS;

/// When frames were sent, in the run's clock.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Those that the wire took: the index is the sequence number.
    pub times: Vec<Ns>,
    /// When the wire was full: nothing of these has left the generator.
    pub refused: Vec<Ns>,
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

/// A running generator. It stops when it is dropped.
#[derive(Debug)]
pub struct Generator {
    sent: Arc<Mutex<Sent>>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// What a running generator is told.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    pause: AtomicBool,
}

impl Orders {
    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self) -> bool {
        self.pause.load(Ordering::Relaxed)
    }
}

/// What a generator sends.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The card's number.
    pub card: u8,
    /// The card's MAC address.
    pub mac: [u8; 6],
    /// Frames per second, 1 to 20,000.
    pub rate: u32,
    /// How much of it the wire holds.
    pub depth: Ns,
}

/// Reads `52:54:00:12:34:56`.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().unwrap_or_default();
        *byte = u8::from_str_radix(part, 16)
            .with_context(|| format!("`{text}` is not a MAC address"))?;
    }
    if parts.next().is_some() {
        bail!("`{text}` is not a MAC address");
    }
    Ok(mac)
}

impl Generator {
    /// Begins at once.
    pub fn start(wire: UnixStream, stream: Stream, clock: Clock) -> Result<Self> {
        wire.set_nonblocking(true)
            .context("the wire can not be made non-blocking")?;
        deepen(&wire, stream);
        let sent = Arc::new(Mutex::new(Sent::default()));
        let orders = Arc::new(Orders::default());
        let thread = std::thread::Builder::new()
            .name(format!("generator{}", stream.card))
            .spawn({
                let (sent, orders) = (Arc::clone(&sent), Arc::clone(&orders));
                move || {
                    hurry();
                    send(&mut Wire::new(wire), stream, clock, &sent, &orders);
                }
            })
            .context("no thread for the generator")?;
        Ok(Self {
            sent,
            orders,
            thread: Some(thread),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been sent so far.
    pub fn sent(&self) -> Sent {
        self.lock().clone()
    }

    /// Sends nothing for a while, or goes on.
    pub fn pause(&self, pause: bool) {
        self.orders.pause.store(pause, Ordering::Relaxed);
    }

    /// Sends no more, and says what was sent.
    pub fn stop(mut self) -> Sent {
        self.join();
        self.sent()
    }

    fn join(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed, and the frames are missing.
            let _ = thread.join();
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.join();
    }
}

/// Makes the wire hold what comes in a while: a busy host does not run QEMU for a tenth of a second now and then, and that
/// is not the guest's doing. A card that stalls for longer than that shows.
fn deepen(wire: &UnixStream, stream: Stream) {
    let frames = u64::from(stream.rate) * stream.depth / SECOND;
    let frames = usize::try_from(frames).unwrap_or(usize::MAX);
    // The kernel doubles what it is told. Without the right to exceed the system's limit the limit has to do.
    let bytes = frames.saturating_mul(FRAME_COST) / 2;
    if sockopt::set_socket_send_buffer_size_force(wire, bytes).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(wire, bytes);
    }
}

fn send<W: Write>(
    wire: &mut Wire<W>,
    stream: Stream,
    clock: Clock,
    sent: &Mutex<Sent>,
    orders: &Orders,
) {
    let start = clock.now();
    let mut bytes = [0; frame::DEFAULT_LENGTH];
    let mut sequence = 0;
    for tick in 0.. {
        let due = start + tick * SECOND / u64::from(stream.rate);
        let mut now = clock.now();
        while now < due && !orders.stop() {
            std::thread::sleep(Duration::from_nanos((due - now).min(20 * MS)));
            now = clock.now();
        }
        if orders.stop() {
            break;
        }
        if orders.pause() {
            continue;
        }
        // The length is a constant that a frame may have.
        let _ = frame::build(&mut bytes, stream.mac, SOURCE, stream.card, sequence, now);
        let taken = wire.offer(&bytes);
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        if taken {
            sent.times.push(now);
            sequence += 1;
        } else {
            sent.refused.push(now);
        }
    }
    // A frame that was begun is ended, so that what went before it is not held up by it.
    let last = clock.now() + LAST_BYTES;
    while !wire.flush_rest() && clock.now() < last {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// QEMU's stream framing: four bytes of length, big-endian, before each frame.
struct Wire<W> {
    socket: W,
    rest: Vec<u8>,
}

impl<W: Write> Wire<W> {
    fn new(socket: W) -> Self {
        Self {
            socket,
            rest: Vec::new(),
        }
    }

    /// Writes a whole frame, or nothing of it. Bytes that do not fit any more are kept for the next call: a frame
    /// that was begun must be ended.
    fn offer(&mut self, bytes: &[u8]) -> bool {
        let Ok(length) = u32::try_from(bytes.len()) else {
            return false;
        };
        if !self.flush_rest() {
            return false;
        }
        let mut packet = length.to_be_bytes().to_vec();
        packet.extend_from_slice(bytes);
        match self.write(&packet) {
            Some(0) | None => false,
            Some(count) => {
                self.rest = packet.split_off(count);
                true
            }
        }
    }

    /// Whether nothing is left to be written.
    fn flush_rest(&mut self) -> bool {
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            match self.write(&rest) {
                Some(0) | None => {
                    self.rest = rest;
                    return false;
                }
                Some(count) => self.rest = rest[count..].to_vec(),
            }
        }
        true
    }

    /// Bytes that were taken; `None` when the far end is gone.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            match self.socket.write(bytes) {
                Ok(count) => return Some(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(0),
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A socket with room for so many bytes.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_goes_whole_or_not_at_all() {
        let mut wire = Wire::new(Narrow {
            room: 10,
            taken: Vec::new(),
        });
        assert!(wire.offer(&[1; 8]), "begun, so it will be ended");
        assert!(!wire.offer(&[2; 8]), "no room: refused");
        wire.socket.room = 13;
        assert!(wire.offer(&[3; 8]));
        assert!(!wire.flush_rest());
        wire.socket.room = 1;
        assert!(!wire.offer(&[4; 8]));
        wire.socket.room = 100;
        assert!(wire.flush_rest());
        let expected = [&[0, 0, 0, 8][..], &[1; 8], &[0, 0, 0, 8], &[3; 8]].concat();
        assert_eq!(wire.socket.taken, expected);
    }

    #[test]
    fn frames_come_in_order_and_in_time_and_what_a_full_wire_refuses_has_no_number() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let clock = Clock::start();
        let stream = Stream {
            card: 1,
            mac: [2; 6],
            rate: 2000,
            depth: DEPTH,
        };
        let generator = Generator::start(ours, stream, clock).expect("started");
        for expected in 0..100 {
            let mut packet = [0; 4 + frame::DEFAULT_LENGTH];
            theirs.read_exact(&mut packet).expect("a frame");
            let header = frame::check(&packet[4..]).expect("ours");
            assert_eq!((header.sequence, header.card), (expected, 1));
            assert!(header.sent_ns >= expected * SECOND / 2000);
        }
        assert!(generator.sent().refused.is_empty());
        // Nobody reads any more: what comes in half a second fits, and nothing after that.
        while generator.sent().refused.len() < 3 && generator.sent().count() < 10_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let held = generator.sent().count();
        assert!(held > 100, "{held}");
        let mut packet = [0; 4 + frame::DEFAULT_LENGTH];
        let mut next = 100;
        while generator.sent().count() == held {
            theirs.read_exact(&mut packet).expect("a frame");
            let header = frame::check(&packet[4..]).expect("ours");
            assert_eq!(header.sequence, next, "no number is left out");
            next += 1;
        }
        let sent = generator.stop();
        assert!(sent.times.is_sorted() && sent.refused.is_sorted());
    }

    #[test]
    fn a_mac_address_is_read() {
        assert_eq!(
            parse_mac("52:54:00:0a:0B:ff").ok(),
            Some([0x52, 0x54, 0, 10, 11, 255])
        );
        for bad in ["", "52:54:00:0a:0b", "52:54:00:0a:0b:ff:00", "52-54"] {
            assert!(parse_mac(bad).is_err());
        }
    }

    #[test]
    fn the_number_at_a_moment_is_found() {
        let sent = Sent {
            times: vec![10, 20, 30],
            refused: Vec::new(),
        };
        assert_eq!([5, 10, 11, 31].map(|at| sent.first_after(at)), [0, 0, 1, 3]);
    }
}
