// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams that are tests; `testdata/README.md` says where they come from.

use std::io::Read;

use flate2::read::GzDecoder;

/// A machine without a device.
pub(crate) const PLAIN: &[u8] = include_bytes!("../../testdata/qemu-11.1/plain.cpr");
/// A machine with a card.
pub(crate) const NIC: &[u8] = include_bytes!("../../testdata/qemu-11.1/nic.cpr");

/// The main stream of the machine without a device.
pub(crate) fn plain_main() -> Vec<u8> {
    let packed = include_bytes!("../../testdata/qemu-11.1/plain.main.gz");
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .expect("a stream");
    bytes
}
