// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may import what, inside core, in glue and in the C seams.

use anyhow::Result;

use super::modules::Crate;
use super::repository::{Outcome, Repository};
use super::tokens::{code, words};

/// A module of core, and the other modules of core which it may use.
const CORE: &[(&str, &[&str])] = &[
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
        problems.extend(core(repository)?);
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

fn core(repository: &Repository) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let found = Crate::read(repository, CORE_ROOT)?;
    for file in found.files.iter().filter(|file| *file != CORE_ROOT) {
        if !CORE.iter().any(|(name, _)| *name == module(file)) {
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
        let layer = CORE.iter().find(|(name, _)| *name == from);
        let known = CORE.iter().any(|(name, _)| *name == to);
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
    let rest = path.trim_start_matches(GLUE);
    // The border to C, and core, which is linked in.
    if rest == "entry.rs" || rest.starts_with("entry/") || rest.starts_with("core/") {
        return Ok(Vec::new());
    }
    Ok(code(path, text)?
        .paths
        .into_iter()
        .filter(|used| {
            used.segments
                .iter()
                .take(2)
                .any(|segment| segment == "bindings")
        })
        .map(|used| {
            format!(
                "{path}:{}: glue calls C by way of entry.rs or rust/kernel, never `{}`",
                used.line,
                used.segments.join("::")
            )
        })
        .collect())
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

/// A C file may include `linux/hitless.h`, and of hitless nothing else but what lies beside it.
fn seam(path: &str, text: &str) -> Vec<String> {
    let include = |line: &str| {
        Some(
            line.trim()
                .strip_prefix('#')?
                .trim()
                .strip_prefix("include")?
                .trim()
                .to_owned(),
        )
    };
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, include(line)?)))
        .filter(|(_, what)| what.contains("hitless") && what != "<linux/hitless.h>" && (what.starts_with('<') || what.contains('/')))
        .map(|(line, what)| format!("{path}:{line}: a seam includes <linux/hitless.h> and private headers beside it, not {what}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    /// How many problems there are when one file of core has this text.
    fn core_problems(path: &str, text: &str) -> usize {
        let names = ["abi", "model", "refusal", "vtd", "wire", "rules", "other"];
        let mut files = vec![(
            CORE_ROOT.to_owned(),
            "#![cfg_attr(not(CONFIG_RUST), no_std)]".to_owned(),
        )];
        for name in names {
            if name != "other" || path.contains("other") {
                files[0].1 += &format!("mod {name};");
                files.push((
                    format!("core/src/{name}.rs"),
                    "mod pci; pub struct X;".to_owned(),
                ));
                files.push((
                    format!("core/src/{name}/pci.rs"),
                    "pub struct X;".to_owned(),
                ));
            }
        }
        for file in files.iter_mut().filter(|(known, _)| known == path) {
            text.clone_into(&mut file.1);
        }
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let (_dir, repository) = pretend(&files);
        core(&repository).unwrap().len()
    }

    #[test]
    fn core_imports_downward_only() {
        let problems = [
            (
                "core/src/wire/pci.rs",
                "use crate::abi::pci::X; use crate::model::X as Y;",
                0,
            ),
            ("core/src/wire/pci.rs", "use crate::{abi::X, rules::Y};", 1),
            ("core/src/abi.rs", "fn f(x: crate::model::X) {}", 1),
            ("core/src/abi/pci.rs", "use super::super::model::H;", 1),
            ("core/src/model/pci.rs", "// use crate::wire::X;", 0),
            ("core/src/vtd/pci.rs", "use crate::vtd::X;", 0),
        ];
        for (path, text, count) in problems {
            assert_eq!(core_problems(path, text), count, "{path}: {text}");
        }
    }

    #[test]
    fn core_has_a_layer_for_each_module_and_no_configuration() {
        assert_eq!(core_problems("core/src/other/pci.rs", ""), 2);
        assert_eq!(
            core_problems("core/src/abi.rs", "#[cfg(CONFIG_SMP)] fn f() {}"),
            1
        );
    }

    #[test]
    fn glue_reaches_c_at_its_border_only() {
        let text = "use kernel::bindings; fn f() { unsafe { bindings::x() } } use kernel::{bindings::y, prelude::*};";
        assert_eq!(
            glue("kernel/tree/drivers/hitless/vtd.rs", text)
                .unwrap()
                .len(),
            3
        );
        assert!(glue("kernel/tree/drivers/hitless/entry.rs", text)
            .unwrap()
            .is_empty());
        assert!(glue("kernel/tree/drivers/hitless/entry/seams.rs", text)
            .unwrap()
            .is_empty());
        assert!(glue(
            "kernel/tree/drivers/hitless/vtd.rs",
            "use kernel::prelude::*;"
        )
        .unwrap()
        .is_empty());
    }

    #[test]
    fn abstractions_know_nothing_of_core() {
        assert_eq!(
            abstraction("kernel/tree/rust/kernel/kho.rs", "use hitless_core::abi;")
                .unwrap()
                .len(),
            1
        );
        assert!(
            abstraction("kernel/tree/rust/kernel/kho.rs", "//! hitless_core")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn seams_see_one_header() {
        let good =
            "#include <linux/hitless.h>\n#include \"hitless_seam.h\"\n#include <linux/pci.h>\n";
        assert!(seam("x.c", good).is_empty());
        assert_eq!(
            seam(
                "x.c",
                "#include \"../../hitless/abi.h\"\n# include <hitless/core.h>\n"
            )
            .len(),
            2
        );
    }
}
