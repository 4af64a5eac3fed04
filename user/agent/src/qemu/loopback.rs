// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Source and target of this crate against each other, without a QEMU.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::golden::{plain_main, NIC, PLAIN};
use super::source::Offer;
use super::state::State;
use super::stream::Stream;
use super::target::{Given, Target};
use crate::refusal::Result;
use crate::socket::Peer;

const PATIENCE: Duration = Duration::from_secs(10);
/// For a source that waits in vain.
const SHORT: Duration = Duration::from_millis(500);

fn memfds(count: usize) -> Vec<OwnedFd> {
    let memfd = |_| rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).expect("a memfd");
    (0..count).map(memfd).collect()
}

/// Offers a state with memfds for all of its entries.
fn offer(
    folder: &Path,
    state: &[u8],
    may_take: impl Fn(Peer) -> bool,
    patience: Duration,
) -> Result<Peer> {
    let state = State::parse(state).expect("a state");
    let stream = Stream::new(plain_main()).expect("a stream");
    let files = memfds(state.entries().len());
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let offer = Offer {
        state: &state,
        descriptors: &files,
        stream: &stream,
    };
    let taken = offer.hand_on(folder, may_take, PATIENCE, patience);
    taken.map_err(|failed| failed.error)
}

/// What became of a VM that was offered, at either end.
fn hand_over(
    state: &[u8],
    may_give: fn(Peer) -> bool,
    may_take: fn(Peer) -> bool,
    patience: Duration,
) -> (Result<Given>, Result<Peer>) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::listen(folder.path()).expect("to listen");
    thread::scope(|scope| {
        let source = scope.spawn(|| offer(folder.path(), state, may_take, patience));
        let given = target.receive(may_give, PATIENCE, PATIENCE);
        (given, source.join().expect("no panic"))
    })
}

#[test]
fn what_is_handed_on_arrives_as_it_was() {
    let (given, taker) = hand_over(PLAIN, |_| true, |_| true, PATIENCE);
    let given = given.expect("a VM");
    assert_eq!(given.manifest.state().encode().bytes, PLAIN);
    assert_eq!(given.manifest.stream().bytes(), plain_main());
    assert_eq!(given.descriptors.len(), 6);
    assert_eq!(given.manifest.parts().memory.len(), 6);
    // Both ends are this process.
    assert_eq!(taker.expect("a taker"), given.peer);
}

#[test]
fn who_may_not_give_or_take_is_refused() {
    let (given, source) = hand_over(PLAIN, |_| false, |_| true, SHORT);
    let refusal = given.unwrap_err().to_string();
    assert!(refusal.contains("may not give a VM"), "{refusal}");
    assert!(source.is_err());
    let (given, source) = hand_over(PLAIN, |_| true, |_| false, SHORT);
    let refusal = source.unwrap_err().to_string();
    assert!(refusal.contains("may not take this VM"), "{refusal}");
    assert!(given.is_err());
}

#[test]
fn what_is_refused_is_refused_before_the_vm_stops() {
    // Every descriptor is a memfd, the card's file too.
    let (given, source) = hand_over(NIC, |_| true, |_| true, SHORT);
    let refusal = given.unwrap_err().to_string();
    assert!(refusal.contains("with number 2 is memory"), "{refusal}");
    // The source has found nobody on the main channel, so a QEMU would not have stopped its VM.
    assert!(source.is_err());
}

#[test]
fn the_sockets_are_there_once_and_go_with_the_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = || fs::read_dir(folder.path()).expect("a folder").count();
    let target = Target::listen(folder.path()).expect("to listen");
    assert_eq!(files(), 2);
    let error = Target::listen(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("flock: "), "{error}");
    drop(target);
    assert_eq!(files(), 0);
    // A process that was killed leaves a file on which nobody listens.
    drop(std::os::unix::net::UnixListener::bind(
        folder.path().join("cpr.sock"),
    ));
    assert!(Target::listen(folder.path()).is_ok());
}

#[test]
fn a_peer_that_connects_and_goes_gives_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::listen(folder.path()).expect("to listen");
    drop(UnixStream::connect(folder.path().join("cpr.sock")));
    let error = target.receive(|_| true, PATIENCE, PATIENCE).unwrap_err();
    assert!(
        error.to_string().contains("not the state of a QEMU"),
        "{error}"
    );
}
