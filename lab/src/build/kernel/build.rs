// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs kbuild: configuration, then the two generations of the image, then the manifest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::config::{Config, Images};
use super::fragments::{parse, render, verify, Requests};
use super::tree::{assemble, Tree};
use crate::build::sources::linux::check_unbuilt;
use crate::build::sources::tools::{kernel_tools, KernelTools};
use crate::command;
use crate::fingerprint::{Fingerprint, Stamp};
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;
use crate::trouble::{trouble, Trouble};

/// Change this when the way kernels are built changes, so that every manifest is stale.
const RECIPE: &str = "1";
/// kbuild steps of a first full build, until one has been counted.
const STEPS_OF_A_FULL_BUILD: u64 = 1900;
/// A build folder with debug information and the results, measured, with some air.
const BUILD_BYTES: u64 = 1 << 30;
/// In the build folder: how many steps its full build took.
const STEPS_FILE: &str = "build.steps";

/// A configured build folder.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The assembled tree.
    pub source: PathBuf,
    /// kbuild's O=.
    pub folder: PathBuf,
    /// Of all inputs.
    pub fingerprint: String,
    tools: KernelTools,
}

impl Prepared {
    /// A `make` for this tree and folder; the caller adds targets.
    pub fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.folder.display()));
        make.arg(format!("-j{}", jobs())).arg("ARCH=x86_64");
        // An argument, since the top Makefile assigns to it.
        make.arg(format!("BINDGEN={}", self.tools.bindgen.display()));
        // What cargo sets for its own children is not meant for kbuild.
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "MAKEFLAGS",
            "MFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
        ] {
            make.env_remove(name);
        }
        make.env("LC_ALL", "C")
            .env("RUST_LIB_SRC", &self.tools.rust_library)
            .env("LIBCLANG_PATH", &self.tools.libclang)
            .env("KBUILD_BUILD_USER", "hitless")
            .env("KBUILD_BUILD_HOST", "lab")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970");
        make
    }

    /// Where the output of all builds in this folder goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join("build.log")
    }
}

/// Makes the manifest of a configuration stale.
pub fn forget(config: Config) -> Result<()> {
    let _lock = lock(&paths::output()?)?;
    let manifest = results(config)?.join("manifest");
    if manifest.exists() {
        fs::remove_file(&manifest)
            .with_context(|| format!("cannot remove {}", manifest.display()))?;
    }
    Ok(())
}

/// Assembles the tree and configures a build folder.
pub fn prepare(config: Config) -> Result<Prepared> {
    let tools = kernel_tools()?;
    let _lock = lock(&paths::output()?)?;
    let prepared = prepared(config, &tools, &assemble(&tools.source)?)?;
    configure(config, &prepared)?;
    Ok(prepared)
}

/// Builds or finds the images of a configuration.
pub fn images(config: Config) -> Result<Images> {
    let tools = kernel_tools()?;
    let _lock = lock(&paths::output()?)?;
    let tree = assemble(&tools.source)?;
    let prepared = prepared(config, &tools, &tree)?;
    let results = results(config)?;
    let images = Images {
        config,
        gen1: results.join("bzImage-1"),
        gen2: results.join("bzImage-2"),
        vmlinux: results.join("vmlinux"),
        build: prepared.folder.clone(),
        source: prepared.source.clone(),
        fingerprint: prepared.fingerprint.clone(),
    };
    let manifest = results.join("manifest");
    if is_current(&manifest, &images) {
        return Ok(images);
    }
    paths::need_space(&prepared.folder, BUILD_BYTES, "building the kernel")?;
    fs::create_dir_all(&results)?;
    // From here to the last line the results are not to be trusted.
    if manifest.exists() {
        fs::remove_file(&manifest)?;
    }
    configure(config, &prepared)?;
    for (generation, image) in [(1, &images.gen1), (2, &images.gen2)] {
        build(config, &prepared, generation)?;
        place(&prepared.folder.join("arch/x86/boot/bzImage"), image)?;
    }
    place(&prepared.folder.join("vmlinux"), &images.vmlinux)?;
    write_manifest(&manifest, &images, &tools)?;
    Ok(images)
}

fn results(config: Config) -> Result<PathBuf> {
    Ok(paths::output()?.join("kernel").join(config.name()))
}

fn prepared(config: Config, tools: &KernelTools, tree: &Tree) -> Result<Prepared> {
    let repository = paths::repository()?;
    let mut sum = Fingerprint::new();
    sum.add("recipe", RECIPE)
        .add("tree", &tree.fingerprint)
        .add("tools", &tools.versions);
    sum.add("config", render(&requests(config)?));
    sum.add_files(&repository.join("kernel/tree"))?;
    // Cargo builds the tests; kbuild sees the rest.
    sum.add_files(&repository.join("core/src"))?;
    sum.add_files(&repository.join("core/testdata"))?;
    Ok(Prepared {
        source: tree.path.clone(),
        folder: paths::output()?.join("build").join(config.name()),
        fingerprint: sum.finish(),
        tools: tools.clone(),
    })
}

fn is_current(manifest: &Path, images: &Images) -> bool {
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let recorded = text
        .lines()
        .find_map(|line| line.strip_prefix("fingerprint "));
    recorded == Some(images.fingerprint.as_str())
        && [&images.gen1, &images.gen2, &images.vmlinux]
            .iter()
            .all(|path| path.is_file())
}

fn requests(config: Config) -> Result<Requests> {
    let folder = paths::repository()?.join("kernel/config");
    let mut all = Requests::new();
    for name in config.fragments() {
        let path = folder.join(format!("{name}.config"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(parse(name, &text)?);
    }
    Ok(all)
}

/// Requests onto allnoconfig, then olddefconfig; an equal configuration keeps its file and so every object.
fn configure(config: Config, prepared: &Prepared) -> Result<()> {
    configure_to(config, &requests(config)?, prepared)
}

fn configure_to(config: Config, requests: &Requests, prepared: &Prepared) -> Result<()> {
    fs::create_dir_all(&prepared.folder)?;
    check_unbuilt(&prepared.source)?;
    let stamp = Stamp::at(prepared.folder.join(".hitless-configured"));
    let dot_config = prepared.folder.join(".config");
    let read = || {
        fs::read_to_string(&dot_config)
            .with_context(|| format!("cannot read {}", dot_config.display()))
    };
    if let Ok(text) = read() {
        if stamp.says(&configured(requests, prepared, &text)) {
            return verify(requests, &text);
        }
    }
    let step = Step::begin(format!("Configuring the kernel ({config})"));
    let log = prepared.log();
    stamp.renew(|| {
        command::logged(prepared.make().arg("allnoconfig"), &log, |_| {})?;
        fs::write(&dot_config, read()? + &render(requests))?;
        command::logged(prepared.make().arg("olddefconfig"), &log, |_| {})?;
        let text = read()?;
        verify(requests, &text)?;
        Ok(configured(requests, prepared, &text))
    })?;
    step.done();
    Ok(())
}

/// What a configuration was made of, and itself: one that somebody has changed is made anew.
fn configured(requests: &Requests, prepared: &Prepared, dot_config: &str) -> String {
    let kconfig = prepared.source.join("drivers/hitless/Kconfig");
    let mut sum = Fingerprint::new();
    sum.add("requests", render(requests))
        .add("tools", &prepared.tools.versions)
        .add("kconfig", fs::read(kconfig).unwrap_or_default())
        .add("recipe", RECIPE)
        .add("result", dot_config);
    sum.finish()
}

fn build(config: Config, prepared: &Prepared, generation: u32) -> Result<()> {
    let steps_file = prepared.folder.join(STEPS_FILE);
    let known = fs::read_to_string(&steps_file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let first = known.is_none();
    let expected: u64 = if first {
        STEPS_OF_A_FULL_BUILD
    } else {
        known.unwrap_or(0).min(STEPS_OF_A_FULL_BUILD * 3)
    };
    let log = prepared.log();
    if first {
        // One log for one history: that of a folder which was begun anew.
        let _ = fs::remove_file(&log);
    }
    let mut step = Step::begin(format!(
        "Building the kernel ({config}, generation {generation})"
    ));
    let mut count = 0;
    let mut make = prepared.make();
    make.env("KBUILD_BUILD_VERSION", generation.to_string())
        .arg("bzImage");
    kbuild(config, prepared, &mut make, |line| {
        if is_step(line) {
            count += 1;
            // Only a full build is worth a bar; of a partial one nobody knows the length.
            if first || count > expected / 2 {
                step.at(count, expected, "objects");
            }
        }
    })?;
    // Less is the rest of a build that was cut off.
    if first && count > STEPS_OF_A_FULL_BUILD / 2 {
        fs::write(&steps_file, count.to_string())?;
    }
    step.done();
    Ok(())
}

/// Runs a `make` of the kernel. A warning is an error: most are for the compiler already, the others are so here. What
/// gave one is not compiled again by the next `make`, which would say nothing: so that one begins from nothing.
///
/// # Errors
///
/// [`Trouble`] with the errors, or with the warnings.
pub fn kbuild(
    config: Config,
    prepared: &Prepared,
    make: &mut Command,
    mut each: impl FnMut(&str),
) -> Result<()> {
    let log = prepared.log();
    let warned = prepared.folder.join("build.warned");
    let failed = |error: anyhow::Error| {
        Trouble::new(
            format!("the kernel ({config}) does not build: {error:#}"),
            format!("mend the error; the whole log is {}", log.display()),
        )
    };
    if warned.exists() {
        command::logged(prepared.make().arg("clean"), &log, |_| {}).map_err(failed)?;
        fs::remove_file(&warned)?;
    }
    let mut warnings = Vec::new();
    let result = command::logged(make, &log, |line| {
        if is_warning(line) {
            // Noted at once: this may end at any time.
            let _ = fs::write(&warned, "");
            warnings.push(line.to_owned());
        }
        each(line);
    });
    result.map_err(failed)?;
    if warnings.is_empty() {
        return Ok(());
    }
    trouble(
        format!(
            "the kernel ({config}) builds with warnings:\n{}",
            warnings.join("\n")
        ),
        format!("mend what they warn of; the whole log is {}", log.display()),
    )
}

/// What make itself warns of, such as a clock, is about the host.
fn is_warning(line: &str) -> bool {
    (line.contains("warning: ") || line.contains("WARNING: ")) && !line.starts_with("make")
}

/// kbuild's short lines: two spaces, the kind of step in capitals, the file.
fn is_step(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("  ") else {
        return false;
    };
    let kind = rest.split(' ').next().unwrap_or_default();
    kind.len() >= 2
        && kind
            .chars()
            .all(|c| c.is_ascii_uppercase() || c == '-' || c.is_ascii_digit())
}

/// Copies by way of a temporary name, so that a reader never sees half a file.
fn place(from: &Path, to: &Path) -> Result<()> {
    let partial = to.with_extension("partial");
    fs::copy(from, &partial).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::rename(partial, to)?)
}

fn write_manifest(path: &Path, images: &Images, tools: &KernelTools) -> Result<()> {
    let mut text = format!(
        "# What these images were made of; read by cargo lab.\nfingerprint {}\nconfig {}\nlinux {}\n",
        images.fingerprint, images.config, tools.source.release
    );
    for (generation, image) in [(1, &images.gen1), (2, &images.gen2)] {
        text.push_str(&format!(
            "bzImage-{generation} sha256 {}\n",
            crate::fingerprint::of_file(image)?
        ));
    }
    text.push_str(
        &tools
            .versions
            .lines()
            .map(|line| format!("tool {line}\n"))
            .collect::<String>(),
    );
    let partial = path.with_extension("partial");
    fs::write(&partial, text)?;
    Ok(fs::rename(partial, path)?)
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// A kbuild that forgets the symbol LOST, and counts how often it is asked.
#[cfg(test)]
const KBUILD: &str = "allnoconfig:\n\t@echo >> $(O)/asked; echo > $(O)/.config\nolddefconfig:\n\t@sed -i /CONFIG_LOST=/d $(O)/.config\n";

/// A build folder, and the least that passes for a source.
#[cfg(test)]
pub(super) fn pretended(folder: &Path) -> Prepared {
    let source = super::tree::pretend_source(&folder.join("source"));
    fs::write(source.path.join("Makefile"), KBUILD).unwrap();
    Prepared {
        source: source.path.clone(),
        folder: folder.join("build"),
        fingerprint: String::new(),
        tools: KernelTools {
            source,
            rust_library: PathBuf::new(),
            bindgen: PathBuf::new(),
            libclang: PathBuf::new(),
            versions: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_other_lines() {
        for line in [
            "  CC      init/main.o",
            "  RUSTC L rust/core.o",
            "  LD [M]  x.ko",
        ] {
            assert!(is_step(line), "{line}");
        }
        for line in ["make[1]: Entering", "  warning: x", "", "    CC x"] {
            assert!(!is_step(line), "{line}");
        }
    }

    #[test]
    fn a_configuration_that_failed_is_not_taken_for_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = pretended(dir.path());
        let configure = |text: &str| {
            let requests = parse("x", text).unwrap();
            configure_to(Config::Hitless, &requests, &prepared)
        };
        let read = |name: &str| fs::read_to_string(prepared.folder.join(name)).unwrap();
        configure("CONFIG_OLD=y\n").unwrap();
        let first = read(".config");
        configure("CONFIG_OLD=y\n").unwrap();
        assert_eq!(read("asked").len(), 1);

        let error = configure("CONFIG_OLD=y\nCONFIG_NEW=y\nCONFIG_LOST=y\n");
        assert!(error.unwrap_err().to_string().contains("CONFIG_LOST=y"));
        assert!(read(".config").contains("CONFIG_NEW=y"));
        configure("CONFIG_OLD=y\n").unwrap();
        assert_eq!(read(".config"), first);
    }

    #[test]
    fn a_configuration_that_somebody_changed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = pretended(dir.path());
        let requests = parse("x", "CONFIG_OLD=y\n").unwrap();
        configure_to(Config::Hitless, &requests, &prepared).unwrap();
        let path = prepared.folder.join(".config");
        let first = fs::read_to_string(&path).unwrap();
        fs::write(&path, first.clone() + "CONFIG_MORE=y\n").unwrap();
        configure_to(Config::Hitless, &requests, &prepared).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }

    #[test]
    fn a_warning_fails_the_build_and_the_next_one_sees_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = pretended(dir.path());
        fs::create_dir_all(&prepared.folder).unwrap();
        // As kbuild does, it compiles, and warns, once.
        let rules = "all:\n\t@[ -e $(O)/x.o ] || { touch $(O)/x.o; echo 'x.c:1:1: warning: bad'; }\nclean:\n\t@rm -f $(O)/x.o\n";
        let makefile = prepared.source.join("Makefile");
        fs::write(&makefile, rules).unwrap();
        let build = || {
            kbuild(
                Config::Hitless,
                &prepared,
                prepared.make().arg("all"),
                |_| {},
            )
        };
        for _ in 0..2 {
            let error = build().unwrap_err().to_string();
            assert!(
                error.contains("x.c:1:1: warning: bad") && error.contains("what to do"),
                "{error}"
            );
        }
        fs::write(&makefile, rules.replace("warning: ", "")).unwrap();
        build().unwrap();
        build().unwrap();
        assert!(!is_warning("make[2]: warning:  Clock skew detected."));
    }

    #[test]
    fn every_configuration_has_its_fragments() {
        for config in [Config::Hitless, Config::Off, Config::Debug] {
            requests(config).unwrap();
        }
        assert_eq!(requests(Config::Off).unwrap()["HITLESS"], "n");
        assert_eq!(requests(Config::Hitless).unwrap()["HITLESS"], "y");
    }
}
