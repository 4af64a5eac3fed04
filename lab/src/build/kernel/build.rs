// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs kbuild: configuration, then the two generations of the image.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::config::{verify, Config};
use super::tree::assemble;
use crate::build::archive::place;
use crate::build::sources::tools::{kernel_tools, KernelTools};
use crate::command::logged;
use crate::fingerprint::{made, Fingerprint};
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;
use crate::trouble::{trouble, Trouble};

/// Change this when the way kernels are built changes, so that every stamp is stale.
const RECIPE: &str = "1";
/// A build folder with debug information and the results, measured, with some air.
const BUILD_BYTES: u64 = 1 << 30;

/// A build folder.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The assembled tree.
    pub source: PathBuf,
    /// kbuild's O=.
    pub folder: PathBuf,
    /// Of all inputs.
    pub fingerprint: String,
    tools: KernelTools,
}

/// The results of a kernel build. Both images come from the same sources; `uname -v` begins with `#1` or `#2`.
#[derive(Clone, Debug)]
pub struct Images {
    /// Which kernel this is.
    pub config: Config,
    /// bzImage of generation 1.
    pub gen1: PathBuf,
    /// bzImage of generation 2.
    pub gen2: PathBuf,
    /// Names the inputs: equal fingerprints, equal images.
    pub fingerprint: String,
}

impl Prepared {
    /// A `make` for this tree and folder; the caller adds targets.
    pub fn make(&self) -> Command {
        let mut make = Command::new("make");
        let jobs = std::thread::available_parallelism().map_or(2, usize::from);
        make.arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.folder.display()))
            .arg(format!("-j{jobs}"))
            .arg("ARCH=x86_64")
            // An argument, since the top Makefile assigns to it.
            .arg(format!("BINDGEN={}", self.tools.bindgen.display()));
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

/// Assembles the tree and configures a build folder.
pub fn prepare(config: Config) -> Result<Prepared> {
    let tools = kernel_tools()?;
    let _lock = lock(&paths::output()?)?;
    let prepared = prepared(config, tools)?;
    configure(config, &prepared)?;
    Ok(prepared)
}

/// Builds or finds the images of a configuration.
pub fn images(config: Config) -> Result<Images> {
    let tools = kernel_tools()?;
    let output = paths::output()?;
    let _lock = lock(&output)?;
    let prepared = prepared(config, tools)?;
    let results = output.join("kernel").join(config.name());
    let images = Images {
        config,
        gen1: results.join("bzImage-1"),
        gen2: results.join("bzImage-2"),
        fingerprint: prepared.fingerprint.clone(),
    };
    let (gen1, gen2) = (images.gen1.as_path(), images.gen2.as_path());
    let stamp = results.join("stamp");
    made(&stamp, &images.fingerprint, &[gen1, gen2], || {
        paths::need_space(&prepared.folder, BUILD_BYTES, "building the kernel")?;
        configure(config, &prepared)?;
        for (generation, image) in [(1, gen1), (2, gen2)] {
            build(config, &prepared, generation)?;
            let built = prepared.folder.join("arch/x86/boot/bzImage");
            let content = fs::read(&built);
            let content = content.with_context(|| format!("there is no {}", built.display()))?;
            place(image, &content)?;
        }
        Ok(())
    })?;
    Ok(images)
}

fn prepared(config: Config, tools: KernelTools) -> Result<Prepared> {
    let repository = paths::repository()?;
    let tree = assemble(&tools.source)?;
    let mut sum = Fingerprint::new();
    sum.add("recipe", RECIPE)
        .add("tree", &tree.fingerprint)
        .add("tools", &tools.versions)
        .add("config", config.requests(&repository)?);
    sum.add_files(&repository.join("kernel/tree"))?;
    // Cargo builds the tests; kbuild sees the rest.
    sum.add_files(&repository.join("core/src"))?;
    sum.add_files(&repository.join("core/testdata"))?;
    Ok(Prepared {
        source: tree.path,
        folder: paths::output()?.join("build").join(config.name()),
        fingerprint: sum.finish(),
        tools,
    })
}

/// Requests onto allnoconfig, then olddefconfig. An equal configuration keeps every object.
fn configure(config: Config, prepared: &Prepared) -> Result<()> {
    let requests = config.requests(&paths::repository()?)?;
    let kconfig = "drivers/hitless/Kconfig";
    let mut inputs = Fingerprint::new();
    inputs
        .add("requests", &requests)
        .add("tools", &prepared.tools.versions)
        .add("recipe", RECIPE)
        .add_file(kconfig, &prepared.source.join(kconfig))?;
    let dot_config = prepared.folder.join(".config");
    let read = || {
        fs::read_to_string(&dot_config)
            .with_context(|| format!("cannot read {}", dot_config.display()))
    };
    let stamp = prepared.folder.join(".hitless-configured");
    made(&stamp, &inputs.finish(), &[&dot_config], || {
        let step = Step::begin(format!("Configuring the kernel ({config})"));
        let make = |target| logged(prepared.make().arg(target), &prepared.log(), |_| {});
        make("allnoconfig")?;
        fs::write(&dot_config, read()? + &requests)?;
        make("olddefconfig")?;
        step.done();
        Ok(())
    })?;
    verify(&requests, &read()?)
}

fn build(config: Config, prepared: &Prepared, generation: u32) -> Result<()> {
    let step = Step::begin(format!(
        "Building the kernel ({config}, generation {generation})"
    ));
    let mut count = 0;
    let mut make = prepared.make();
    make.env("KBUILD_BUILD_VERSION", generation.to_string());
    kbuild(config, prepared, make.arg("bzImage"), |line| {
        // kbuild's short lines begin with the kind of step in capitals.
        let kind = line.strip_prefix("  ").unwrap_or_default();
        if kind.starts_with(|c: char| c.is_ascii_uppercase()) {
            count += 1;
            step.says(&format!("{count} objects (the first build has about 1900)"));
        }
    })?;
    step.done();
    Ok(())
}

/// Runs a `make` of the kernel. A warning is an error: most are for the compiler already, the others are so here.
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
    let mut warnings = Vec::new();
    let result = logged(make, &log, |line| {
        if is_warning(line) {
            warnings.push(line.to_owned());
        }
        each(line);
    });
    if !warnings.is_empty() {
        // What gave a warning is not compiled again by the next `make`, which would say nothing.
        logged(prepared.make().arg("clean"), &log, |_| {})?;
    }
    result.map_err(|error| {
        Trouble::new(
            format!("the kernel ({config}) does not build: {error:#}"),
            format!("mend the error; the whole log is {}", log.display()),
        )
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_fails_the_build_and_the_next_one_sees_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = Prepared {
            source: dir.path().to_owned(),
            folder: dir.path().to_owned(),
            ..Prepared::default()
        };
        // As kbuild does, it compiles, and warns, once.
        let rules = "all:\n\t@[ -e x.o ] || { touch x.o; echo 'x.c:1:1: warning: bad'; }\n\
                     clean:\n\t@rm -f x.o\n";
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
            assert!(error.contains("x.c:1:1: warning: bad"), "{error}");
        }
        fs::write(&makefile, rules.replace("warning: ", "")).unwrap();
        build().unwrap();
        assert!(!is_warning("make[2]: warning:  Clock skew detected."));
    }
}
