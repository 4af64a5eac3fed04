// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel in a file can take over, before it is loaded: the same code reads it as in the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use hitless_core::image::bzimage::{ImageRecord, Says};
use hitless_core::iommu::kinds::KINDS;
use hitless_core::rules;
pub use hitless_core::rules::image::Image;

/// Reads what the kernel in a file says of itself.
///
/// # Errors
///
/// Those of reading the file. A file that is no kernel says nothing.
pub fn says(kernel: &File) -> io::Result<Says> {
    Ok(hitless_core::image::bzimage::read(&content(kernel)?))
}

/// The whole file, wherever it was read before.
fn content(kernel: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(kernel.metadata()?.len()).unwrap_or(usize::MAX)];
    kernel.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What would stand against a jump into the kernel in a file with a command line, if `uses` are the features in use
/// (`ImageRecord::takes` has them) and `running` is the running kernel's command line (`/proc/cmdline`).
///
/// # Errors
///
/// Those of reading the file; the other result is the kernel's: `Ok(Some)` for a jump only because the command line says
/// `hitless.jump=anyway`.
pub fn check(
    kernel: &File,
    cmdline: &str,
    running: &str,
    uses: u64,
) -> io::Result<Result<Option<hitless_core::refusal::Refusal>, hitless_core::refusal::Refusal>> {
    let bytes = content(kernel)?;
    let image = rules::image::read(&bytes, cmdline.as_bytes(), running.as_bytes(), KINDS);
    Ok(rules::image::image(&image, uses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hitless_core::refusal::Refusal;
    use std::io::Write;

    #[test]
    fn a_file_can_be_asked_again_wherever_it_was_read() {
        let mut file = tempfile::tempfile().expect("a file");
        // A kernel that says nothing but that it is one of another version.
        let mut image = vec![0; 4096];
        image[0x1f1] = 1;
        image[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        image[1024..1036].copy_from_slice(b"LToP\x0c\0\0\0\x20\0\0\0");
        image[1036..1048].copy_from_slice(b"HTLS\x0c\0\0\0\xff\0\0\0");
        file.write_all(&image).expect("written");
        assert_eq!(says(&file).expect("read"), Says::Unknown);
        assert_eq!(says(&file).expect("read"), Says::Unknown);
    }

    #[test]
    fn a_file_that_is_no_kernel_says_nothing_and_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(says(&file).expect("read"), Says::Nothing);
        let check = check(&file, "quiet", "quiet", 0).expect("read");
        assert_eq!(check, Err(Refusal::ImageWithoutHitless));
    }
}
