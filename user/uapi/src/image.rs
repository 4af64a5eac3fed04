// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel in a file can take over, before it is loaded: the same code reads it as in the kernel.

use std::fs::File;
use std::io::{self, Read};

pub use hitless_core::image::bzimage::{ImageRecord, Says};
use hitless_core::rules;
pub use hitless_core::rules::image::Image;

/// Reads what the kernel in a file says of itself.
///
/// # Errors
///
/// Those of reading the file. A file that is no kernel says nothing.
pub fn says(mut kernel: &File) -> io::Result<Says> {
    let mut bytes = Vec::new();
    kernel.read_to_end(&mut bytes)?;
    Ok(hitless_core::image::bzimage::read(&bytes))
}

/// What would stand against a jump into the kernel in a file with a command line, if `uses` are the features in use
/// (`ImageRecord::takes` has them) and `running` is the running kernel's command line (`/proc/cmdline`).
///
/// # Errors
///
/// Those of reading the file; the other result is the kernel's: `Ok(Some)` for a jump only because the command line says
/// `hitless.jump=anyway`.
pub fn check(
    mut kernel: &File,
    cmdline: &str,
    running: &str,
    uses: u64,
) -> io::Result<Result<Option<hitless_core::refusal::Refusal>, hitless_core::refusal::Refusal>> {
    let mut bytes = Vec::new();
    kernel.read_to_end(&mut bytes)?;
    let image = rules::image::read(&bytes, cmdline.as_bytes(), running.as_bytes());
    Ok(rules::image::image(&image, uses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hitless_core::refusal::Refusal;

    #[test]
    fn a_file_that_is_no_kernel_says_nothing_and_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(says(&file).expect("read"), Says::Nothing);
        let check = check(&file, "quiet", "quiet", 0).expect("read");
        assert_eq!(check, Err(Refusal::ImageWithoutHitless));
    }
}
