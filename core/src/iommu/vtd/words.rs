// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Words of VT-d's driver on a kernel's command line.

use crate::image::command_line::option;

/// Whether the driver is switched on or off, if anything says so.
pub(super) fn switched(line: &[u8]) -> Option<bool> {
    option(line, b"intel_iommu", |option| match option {
        [b'o', b'n', ..] => Some(true),
        [b'o', b'f', b'f', ..] => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::image::command_line::iommu;
    use crate::iommu::kinds::KINDS;

    #[test]
    fn the_iommu_is_off_if_anything_says_so() {
        for (line, expected) in [
            (&b"quiet"[..], None),
            (b"intel_iommu=on", Some(true)),
            (b"intel_iommu=sm_on,off", Some(false)),
            (b"intel_iommu=off intel_iommu=on,sm_off", Some(true)),
            (b"intel_iommu=on iommu=pt,off", Some(false)),
            (b"iommu=pt", None),
        ] {
            assert_eq!(iommu(line, KINDS), expected);
        }
    }
}
