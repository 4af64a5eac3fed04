// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The card's network interface. There is no ioctl in here: the ring's size is set by generic netlink, and the interface is
//! switched on through sysfs.

use std::fs;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use rustix::fd::OwnedFd;
use rustix::net::{netlink, recv, send, socket, AddressFamily, RecvFlags, SendFlags, SocketType};

const INTERFACES: &str = "/sys/class/net";
/// The driver finds the card before the first process starts; its interface may come a little later.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// Linux's IFF_UP.
const UP: u32 = 1;

/// Linux's nlmsghdr.
const HEADER: usize = 16;
const REQUEST_AND_ACK: u16 = 1 | 4;
/// Type of an error message, whose error is 0 where there is none.
const ERROR: u16 = 2;
/// The family that knows the numbers of others (GENL_ID_CTRL), its command, and its attributes for a number and a name.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// ETHTOOL_MSG_RINGS_SET, ETHTOOL_A_RINGS_HEADER (with the mark of what contains others) and ETHTOOL_A_RINGS_RX, and
/// ETHTOOL_A_HEADER_DEV_NAME.
const RINGS_SET: u8 = 16;
const RINGS_HEADER: u16 = 1 | 1 << 15;
const RINGS_RX: u16 = 6;
const DEVICE_NAME: u16 = 2;

/// The name of the first interface that has hardware behind it.
pub(crate) fn find() -> Result<String> {
    for _ in 0..TRIES {
        for entry in fs::read_dir(INTERFACES).context(INTERFACES)?.flatten() {
            if entry.path().join("device").exists() {
                return Ok(entry.file_name().to_string_lossy().into_owned());
            }
        }
        std::thread::sleep(PAUSE);
    }
    bail!("there is no card: no driver has made an interface")
}

/// Switches an interface on, and waits for its link.
pub(crate) fn switch_on(name: &str) -> Result<()> {
    let path = format!("{INTERFACES}/{name}/flags");
    let text = fs::read_to_string(&path).context("reading the interface's flags")?;
    let flags = text.trim().trim_start_matches("0x");
    let flags = u32::from_str_radix(flags, 16).context("the interface's flags")?;
    fs::write(&path, format!("{:#x}", flags | UP)).context("switching the interface on")?;
    for _ in 0..TRIES {
        let carrier = fs::read_to_string(format!("{INTERFACES}/{name}/carrier"));
        if carrier.is_ok_and(|text| text.trim() == "1") {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    bail!("{name} has no link")
}

/// Gives a card that is off a ring of so many descriptors for what it receives.
pub(crate) fn set_ring(name: &str, descriptors: u32) -> Result<()> {
    let kind = Some(netlink::GENERIC);
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, kind).context("netlink")?;
    let ask = attribute(FAMILY_NAME, b"ethtool\0");
    let told = talk(&socket, CONTROLLER, GET_FAMILY, &ask).context("asking for ethtool")?;
    let family = find_attribute(&told, FAMILY_ID)
        .and_then(|value| Some(u16::from_le_bytes(value.try_into().ok()?)))
        .context("the kernel does not say which number ethtool has")?;
    let device = attribute(DEVICE_NAME, format!("{name}\0").as_bytes());
    let mut set = attribute(RINGS_HEADER, &device);
    set.extend(attribute(RINGS_RX, &descriptors.to_le_bytes()));
    talk(&socket, family, RINGS_SET, &set).context("the ring's size")?;
    Ok(())
}

/// Sends a message of a family, and returns the attributes of the first answer that has any; the acknowledgement is waited for.
fn talk(socket: &OwnedFd, family: u16, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
    send(
        socket,
        &message(family, command, attributes),
        SendFlags::empty(),
    )?;
    let mut found = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let (_, count) = recv(socket, &mut buffer, RecvFlags::empty())?;
        let mut rest = &buffer[..count];
        while let Some((kind, body)) = next_message(&mut rest) {
            if kind == ERROR {
                let code = body.get(..4).and_then(|code| code.try_into().ok());
                let code = code.map(i32::from_le_bytes).context("a torn answer")?;
                ensure!(code == 0, "{}", std::io::Error::from_raw_os_error(-code));
                return Ok(found);
            }
            // Behind the family's own header of 4 bytes.
            found = body.get(4..).unwrap_or_default().to_vec();
        }
    }
}

/// A message with the family's header, version 1.
fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + 4 + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_le_bytes());
    bytes.extend(family.to_le_bytes());
    bytes.extend(REQUEST_AND_ACK.to_le_bytes());
    // Sequence number and port.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// An attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// Takes a message off the front: its type, and what is behind its header.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_le_bytes(rest.get(4..6)?.try_into().ok()?);
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body))
}

/// The value of the first attribute of a kind.
fn find_attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_running_kernel_understands_the_messages() {
        let error = set_ring("no-such-card", 256).expect_err("there is none");
        // Who may not do it is told so before anybody looks for the card; a kernel without ethtool has no number for it.
        let words = format!("{error:#}");
        let known = [
            "No such device",
            "Operation not permitted",
            "asking for ethtool",
        ];
        assert!(known.iter().any(|known| words.contains(known)), "{words}");
    }

    proptest! {
        #[test]
        fn attributes_are_found_again(first in prop::collection::vec(any::<u8>(), 0..20), id: u16) {
            let mut all = attribute(7, &first);
            all.extend(attribute(FAMILY_ID, &id.to_le_bytes()));
            prop_assert_eq!(find_attribute(&all, FAMILY_ID), Some(&id.to_le_bytes()[..]));
            let sent = message(CONTROLLER, GET_FAMILY, &all);
            let mut rest = &sent[..];
            let (kind, body) = next_message(&mut rest).expect("a message");
            prop_assert_eq!((kind, &body[4..]), (CONTROLLER, &all[..]));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = find_attribute(&bytes, FAMILY_ID);
            let _ = next_message(&mut &bytes[..]);
        }
    }
}
