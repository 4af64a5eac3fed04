// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a virtual machine inside a machine sends back, heard at the far end of its card's wire.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use hitless_proto::echo::{self, Echo};

use crate::evidence::worker::Worker;
use crate::machine::clock::{Clock, Ns};

/// How often the wire is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// What was heard so far.
#[derive(Clone, Debug, Default)]
pub struct Echoes {
    /// Each echo, and when it came.
    pub heard: Vec<(Ns, Echo)>,
    /// Frames that are no echoes, in words.
    pub strange: Vec<String>,
    /// The wire has ended.
    pub ended: bool,
}

/// Begins to listen.
pub fn listen(mut wire: UnixStream, clock: Clock) -> Result<Worker<Echoes>> {
    wire.set_nonblocking(true)
        .context("the wire can not be made non-blocking")?;
    let mut bytes = Vec::new();
    Worker::start("listener", Echoes::default(), move |echoes| {
        let mut buffer = [0; 16384];
        match wire.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return LOOK,
            Ok(_) | Err(_) => {
                echoes.ended = true;
                return Duration::from_secs(1);
            }
        }
        while let Some(frame) = take(&mut bytes) {
            match echo::read(&frame) {
                Ok(echo) => echoes.heard.push((clock.now(), echo)),
                Err(error) => echoes.strange.push(error.to_string()),
            }
        }
        Duration::ZERO
    })
}

/// Takes a whole frame off the front of a stream in QEMU's framing: four bytes of length, big-endian, before each.
fn take(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(4)?;
    let frame = bytes.get(4..end)?.to_vec();
    bytes.drain(..end);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn echoes_are_heard_in_whatever_pieces_they_come() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let mut listener = listen(ours, Clock::start()).expect("started");
        let mut stream = Vec::new();
        for sequence in 0..3 {
            let frame = match sequence {
                1 => vec![0; 60],
                _ => echo::build(
                    [1; 6],
                    [2; 6],
                    &Echo {
                        sequence,
                        ..Echo::default()
                    },
                )
                .expect("one"),
            };
            stream.extend((frame.len() as u32).to_be_bytes());
            stream.extend(frame);
        }
        for piece in stream.chunks(7) {
            theirs.write_all(piece).expect("written");
        }
        drop(theirs);
        while !listener.lock().ended {
            std::thread::sleep(LOOK);
        }
        listener.halt();
        let echoes = listener.lock();
        let numbers = echoes.heard.iter().map(|(_, echo)| echo.sequence);
        assert!(numbers.eq([0, 2]));
        assert_eq!(echoes.strange.len(), 1);
    }
}
