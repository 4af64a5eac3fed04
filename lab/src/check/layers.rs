// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may import what, inside core, in glue and in the C seams.

use anyhow::Result;

use super::modules::Crate;
use super::repository::{Outcome, Repository};
use super::tokens::{code, words};

/// A module of core, and the other modules of core which it may use.
type Layer = (&'static str, &'static [&'static str]);

/// All of them.
const CORE: &[Layer] = &[
    ("abi", &[]),
    ("model", &[]),
    ("refusal", &["vtd"]),
    ("vtd", &[]),
    ("wire", &["abi", "model", "refusal"]),
    ("rules", &["model", "refusal", "vtd", "wire"]),
];

/// The root, which names all modules and alone may know how it is built.
const CORE_ROOT: &str = "core/src/hitless_core.rs";
const GLUE: &str = "kernel/tree/drivers/hitless/";
const ABSTRACTIONS: &str = "kernel/tree/rust/";
const SEAMS: &str = "kernel/tree/";

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut problems = Vec::new();
    if repository.files.iter().any(|path| path == CORE_ROOT) {
        problems.extend(core(repository, CORE)?);
    }
    for (path, text) in repository.rust(GLUE)? {
        problems.extend(glue(path, &text)?);
    }
    for (path, text) in repository.rust(ABSTRACTIONS)? {
        problems.extend(abstraction(path, &text)?);
    }
    for (path, text) in repository
        .texts(|path| path.starts_with(SEAMS) && (path.ends_with(".c") || path.ends_with(".h")))?
    {
        problems.extend(seam(path, &text));
    }
    Ok(Outcome {
        problems,
        ..Outcome::default()
    })
}

fn core(repository: &Repository, layers: &[Layer]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let found = Crate::read(repository, CORE_ROOT)?;
    for file in found.files.iter().filter(|file| *file != CORE_ROOT) {
        if !layers.iter().any(|(name, _)| *name == module(file)) {
            problems.push(format!(
                "{file}: core has no layer for `{}`: give it one in lab/src/check/layers.rs",
                module(file)
            ));
        }
        for word in words(file, &repository.text(file)?)? {
            if word.text.starts_with("CONFIG_") {
                problems.push(format!(
                    "{file}:{}: {} is asked outside the crate root: core is the same in every build",
                    word.line, word.text
                ));
            }
        }
    }
    for arrow in &found.arrows {
        let (from, to) = (module(&arrow.from), module(&arrow.by_way_of));
        let layer = layers.iter().find(|(name, _)| *name == from);
        let known = layers.iter().any(|(name, _)| *name == to);
        if let Some((_, allowed)) =
            layer.filter(|(_, allowed)| known && from != to && !allowed.contains(&to))
        {
            let may = match allowed {
                [] => "no other module".to_owned(),
                _ => allowed.join(", "),
            };
            problems.push(format!("{arrow}: `{from}` uses `{to}`, but may use {may}"));
        }
    }
    Ok(problems)
}

/// The module of core right below the root that a file belongs to.
fn module(path: &str) -> &str {
    let relative = path.trim_start_matches("core/src/");
    relative.split(['/', '.']).next().unwrap_or(relative)
}

fn glue(path: &str, text: &str) -> Result<Vec<String>> {
    let module = path.trim_start_matches(GLUE).split(['/', '.']).next();
    // The border to C in both directions, and core, which is linked in.
    if matches!(module, Some("entry" | "seam" | "core")) {
        return Ok(Vec::new());
    }
    let mut paths = code(path, text)?.paths;
    paths.retain(|used| {
        used.segments
            .iter()
            .take(2)
            .any(|segment| segment == "bindings")
    });
    let told = paths.into_iter().map(|used| {
        format!(
            "{path}:{}: glue calls C by way of entry, seam or rust/kernel, never `{}`",
            used.line,
            used.segments.join("::")
        )
    });
    Ok(told.collect())
}

fn abstraction(path: &str, text: &str) -> Result<Vec<String>> {
    Ok(words(path, text)?
        .iter()
        .filter(|word| word.text == "hitless_core")
        .map(|word| {
            format!(
                "{path}:{}: an abstraction knows nothing of hitless_core",
                word.line
            )
        })
        .collect())
}

/// A C file may include headers below `linux/`, and of hitless nothing else but what lies beside it.
fn seam(path: &str, text: &str) -> Vec<String> {
    let is_foreign = |line: &str| {
        let rest = line.trim().strip_prefix('#').unwrap_or_default().trim();
        let what = rest.strip_prefix("include").unwrap_or_default().trim();
        let is_ours = what.starts_with("<linux/hitless");
        what.contains("hitless") && !is_ours && (what.starts_with('<') || what.contains('/'))
    };
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| is_foreign(line))
        .map(|(number, line)| {
            format!("{path}:{number}: a seam includes <linux/hitless/*.h> and private headers beside it, not {line}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const LAYERS: &[Layer] = &[("low", &[]), ("high", &["low"])];

    /// How many problems there are when `path` has this text.
    fn core_problems(path: &str, text: &str) -> usize {
        let root = "#![cfg_attr(not(CONFIG_RUST), no_std)]\nmod low; mod high; mod other;";
        let mut files = vec![
            (CORE_ROOT, root),
            ("core/src/low.rs", "mod pci; pub struct X;"),
            ("core/src/high.rs", "mod pci;"),
        ];
        files.retain(|(known, _)| *known != path);
        files.push((path, text));
        let (_dir, repository) = pretend(&files);
        core(&repository, LAYERS).unwrap().len()
    }

    #[test]
    fn core_imports_downward_only() {
        let problems = [
            ("core/src/high/pci.rs", "use crate::low::X;", 0),
            ("core/src/low/pci.rs", "use crate::{low::X, high::Y};", 1),
            ("core/src/low/pci.rs", "use super::super::high::H;", 1),
            (
                "core/src/low/pci.rs",
                "// use crate::high::X;\nuse super::X;",
                0,
            ),
            ("core/src/low.rs", "fn f(x: crate::high::X) {}", 1),
            ("core/src/low.rs", "#[cfg(CONFIG_SMP)] fn f() {}", 1),
            ("core/src/other.rs", "", 1),
        ];
        for (path, text, count) in problems {
            assert_eq!(core_problems(path, text), count, "{path}: {text}");
        }
    }

    #[test]
    fn glue_reaches_c_at_its_border_only() {
        let text = "use kernel::bindings; fn f() { unsafe { bindings::x() } } use kernel::{bindings::y, prelude::*};";
        let count = |file: &str, text| glue(&format!("{GLUE}{file}"), text).unwrap().len();
        assert_eq!(count("vtd.rs", text), 3);
        assert_eq!(count("entry.rs", text), 0);
        assert_eq!(count("entry/pci.rs", text), 0);
        assert_eq!(count("vtd.rs", "use kernel::prelude::*;"), 0);
    }

    #[test]
    fn abstractions_know_nothing_of_core() {
        let count = |text| {
            abstraction("kernel/tree/rust/kernel/kho.rs", text)
                .unwrap()
                .len()
        };
        assert_eq!(count("use hitless_core::abi;"), 1);
        assert_eq!(count("//! hitless_core"), 0);
    }

    #[test]
    fn seams_see_headers_of_linux() {
        let good = "#include <linux/hitless.h>\n#include <linux/hitless/pci.h>\n#include \"hitless_seam.h\"\n";
        assert!(seam("x.c", good).is_empty());
        let bad = "#include \"../../hitless/abi.h\"\n# include <hitless/core.h>\n";
        assert_eq!(seam("x.c", bad).len(), 2);
    }
}
