// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The running root file system as the next kernel's: an archive made on the spot, so that no archive holds itself.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use cpio::newc;
use hitless_uapi::kexec;
use rustix::fs::MemfdFlags;

/// How what an image says of itself begins.
const RECORD: &[u8] = b"HTLS";
/// Where an image is that was changed.
const EDITED: &str = "/edited";

/// Loads kernels; the archive is made at the first load and kept.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    archive: Option<File>,
}

impl Loader {
    /// Loads `/boot/<image>` with the running root file system.
    pub(crate) fn load(&mut self, image: &str, cmdline: &str) -> Result<()> {
        let path = in_boot(image)?;
        let kernel = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        self.load_file(&kernel, cmdline)
    }

    /// Loads it with bytes of what it says of itself changed.
    pub(crate) fn load_edited(
        &mut self,
        image: &str,
        cmdline: &str,
        at: usize,
        new: &[u8],
    ) -> Result<()> {
        let mut kernel = fs::read(in_boot(image)?).context("reading the image")?;
        let mut places = kernel.windows(RECORD.len());
        let record = places.position(|bytes| bytes == RECORD);
        let record = record.context("the image says nothing of itself")?;
        let place = kernel.get_mut(record + at..record + at + new.len());
        place
            .context("beyond the image's end")?
            .copy_from_slice(new);
        fs::write(EDITED, kernel).context("writing the image")?;
        let loaded = File::open(EDITED)
            .context("opening the image")
            .and_then(|kernel| self.load_file(&kernel, cmdline));
        fs::remove_file(EDITED).context("removing the image")?;
        loaded
    }

    fn load_file(&mut self, kernel: &File, cmdline: &str) -> Result<()> {
        let began = Instant::now();
        if self.archive.is_none() {
            self.archive = Some(archive(Path::new("/"))?);
        }
        let archive = self.archive.as_ref().context("the archive")?;
        let packed = began.elapsed();
        kexec::load(kernel, Some(archive.as_fd()), cmdline).context("loading the next kernel")?;
        eprintln!(
            "guest: initramfs of {} KiB in {} ms, next kernel loaded in {} ms",
            archive.metadata().context("the archive's size")?.len() / 1024,
            packed.as_millis(),
            (began.elapsed() - packed).as_millis()
        );
        Ok(())
    }
}

fn in_boot(image: &str) -> Result<PathBuf> {
    ensure!(
        !image.contains('/') && !image.is_empty(),
        "`{image}` is not the name of a file in /boot"
    );
    Ok(Path::new("/boot").join(image))
}

/// An uncompressed newc archive of everything below `root` that is on `root`'s own file system. Mount points become
/// empty folders.
fn archive(root: &Path) -> Result<File> {
    let memfd =
        rustix::fs::memfd_create("initramfs", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut out = BufWriter::new(File::from(memfd));
    let device = fs::symlink_metadata(root)
        .with_context(|| format!("looking at {}", root.display()))?
        .dev();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let mut entries = list(&folder)?;
        entries.sort();
        for path in entries {
            let metadata = fs::symlink_metadata(&path)
                .with_context(|| format!("looking at {}", path.display()))?;
            let name = path.strip_prefix(root).context("a path below the root")?;
            add(&mut out, &path, name, &metadata)
                .with_context(|| format!("archiving {}", path.display()))?;
            if metadata.is_dir() && metadata.dev() == device {
                folders.push(path);
            }
        }
    }
    let mut out = newc::trailer(out).context("ending the archive")?;
    out.flush().context("ending the archive")?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .context("ending the archive")
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .with_context(|| format!("listing {}", folder.display()))
}

fn add(out: &mut impl Write, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let name = name.to_str().context("a name that is not UTF-8")?;
    let entry = newc::Builder::new(name)
        .mode(metadata.permissions().mode())
        .ino(0)
        .nlink(1);
    let size = |bytes: u64| u32::try_from(bytes).context("a file of 4 GiB or more");
    if kind.is_file() {
        let mut writer = entry.write(out, size(metadata.len())?);
        io::copy(&mut File::open(path)?, &mut writer)?;
        writer.finish()?;
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?;
        let target = target
            .to_str()
            .context("a link to a name that is not UTF-8")?;
        let mut writer = entry.write(out, size(target.len() as u64)?);
        writer.write_all(target.as_bytes())?;
        writer.finish()?;
    } else if kind.is_dir() {
        entry.write(out, 0).finish()?;
    }
    // Anything else is a device node or a socket: the next kernel's devtmpfs makes the ones that matter.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};
    use std::os::unix::fs::symlink;

    #[test]
    fn files_links_and_folders_are_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("boot")).expect("a folder");
        fs::write(root.join("init"), "program").expect("a file");
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))
            .expect("permissions");
        fs::write(root.join("boot/kernel"), vec![7; 5001]).expect("a file");
        symlink("init", root.join("linked")).expect("a link");

        let mut archive = archive(root).expect("an archive");
        archive.rewind().expect("a rewind");
        let mut found = Vec::new();
        let mut rest = archive;
        loop {
            let mut reader = newc::Reader::new(rest).expect("an entry");
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).expect("the content");
            found.push((name, mode, content));
            rest = reader.finish().expect("the next entry");
        }
        let entry = |wanted: &str| {
            found
                .iter()
                .find(|(name, ..)| name == wanted)
                .expect("it is there")
        };
        assert_eq!(
            (entry("init").1, &entry("init").2[..]),
            (0o100_755, &b"program"[..])
        );
        assert_eq!(entry("boot/kernel").2, vec![7; 5001]);
        assert_eq!(
            (entry("linked").1 & 0o170_000, &entry("linked").2[..]),
            (0o120_000, &b"init"[..])
        );
        assert_eq!(entry("boot").1 & 0o170_000, 0o040_000);
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn only_names_in_boot_are_loaded() {
        for image in ["", "../init", "/boot/x"] {
            let error = Loader::default().load(image, "").unwrap_err().to_string();
            assert!(error.contains("not the name of a file in /boot"), "{error}");
        }
    }
}
