// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits and deadlines, with both ends in this process.

use std::fs::File;
use std::io::Write;

use super::*;

const LIMIT: Limit = Limit {
    what: "a test",
    bytes: 8,
    descriptors: 1,
};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10), "a test")
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair of sockets")
}

#[test]
fn bytes_and_descriptors_come_in_their_order() {
    let (one, other) = pair();
    let files = ["/dev/null", "/dev/zero"].map(|path| File::open(path).expect("a file"));
    for (file, bytes) in files.iter().zip([b"ab", b"cd"]) {
        send(&one, bytes, Some(file.as_fd()), soon()).expect("to send");
    }
    send(&one, b"ef", None, soon()).expect("to send");
    drop(one);
    let two = Limit {
        descriptors: 2,
        ..LIMIT
    };
    let came = receive(&other, two, soon()).expect("to receive");
    assert_eq!(came.bytes, b"abcdef");
    let links = came.descriptors.iter().map(|file| {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        std::fs::read_link(link).expect("a link")
    });
    assert!(links.eq(["/dev/null", "/dev/zero"].map(std::path::PathBuf::from)));
}

#[test]
fn what_is_too_much_is_refused() {
    let refused = |bytes: &[u8], files: usize, limit| {
        let (mut one, other) = pair();
        let null = File::open("/dev/null").expect("null");
        for _ in 0..files {
            send(&one, b"x", Some(null.as_fd()), soon()).expect("to send");
        }
        one.write_all(bytes).expect("to send");
        drop(one);
        receive(&other, limit, soon()).unwrap_err().to_string()
    };
    let none = Limit {
        descriptors: 0,
        ..LIMIT
    };
    assert_eq!(
        refused(&[0; 9], 0, LIMIT),
        "refused: more than 8 bytes of a test"
    );
    assert_eq!(
        refused(&[0; 5], 2, LIMIT),
        "refused: more than 1 descriptors"
    );
    assert_eq!(
        refused(&[0; 5], 1, none),
        "refused: descriptors came with a test"
    );
}

#[test]
fn a_peer_that_says_nothing_or_takes_nothing_is_too_late() {
    let (one, other) = pair();
    let late = || Deadline::after(Duration::from_millis(50), "a test");
    let wanted = "refused: a test took too long";
    let error = receive(&other, LIMIT, late()).unwrap_err();
    assert_eq!(error.to_string(), wanted);
    let error = send(&one, &[0; 1 << 22], None, late()).unwrap_err();
    assert_eq!(error.to_string(), wanted);
    let nobody = Path::new("/nowhere/at/all.sock");
    let error = connect(nobody, None, late()).unwrap_err();
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn the_peer_of_a_pair_is_this_process() {
    let (one, _other) = pair();
    let peer = Peer::of(&one).expect("a peer");
    assert_eq!(peer.pid, rustix::process::getpid());
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    let watch = Watch::begin(peer).expect("a watch");
    assert!(!watch
        .ends_within(Duration::from_millis(1))
        .expect("to wait"));
}

#[test]
fn an_end_of_a_process_is_seen() {
    let mut child = std::process::Command::new("true").spawn().expect("a child");
    let pid = Pid::from_child(&child);
    let watch = Watch::begin(Peer {
        pid,
        uid: 0,
        gid: 0,
    })
    .expect("a watch");
    assert!(watch.ends_within(Duration::from_secs(10)).expect("to wait"));
    child.wait().expect("its end");
}
