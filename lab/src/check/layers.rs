// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may import what, inside core, in glue and in the C seams.

use anyhow::Result;

use super::tokens::{paths, words, Path};
use super::{Outcome, Repository};

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
    for (path, text) in repository.rust("core/src/")? {
        problems.extend(core(path, &text)?);
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

fn core(path: &str, text: &str) -> Result<Vec<String>> {
    let relative = path.trim_start_matches("core/src/").trim_end_matches(".rs");
    let own: Vec<&str> = relative.split('/').collect();
    let module = own[0];
    let words = words(path, text)?;
    let mut problems = Vec::new();
    if path == CORE_ROOT {
        return Ok(problems);
    }
    let Some((_, allowed)) = CORE.iter().find(|(name, _)| *name == module) else {
        return Ok(vec![format!(
            "{path}: core has no layer for `{module}`: give it one in lab/src/check/layers.rs"
        )]);
    };
    for used in paths(&words) {
        let Some(target) = core_module(&used, own.len()) else {
            continue;
        };
        let known = CORE.iter().any(|(name, _)| *name == target);
        if known && target != module && !allowed.contains(&target) {
            let may = if allowed.is_empty() {
                "no other module".to_owned()
            } else {
                allowed.join(", ")
            };
            problems.push(format!(
                "{path}:{}: `{module}` uses `{target}`, but may use {may}",
                used.line
            ));
        }
    }
    for word in words.iter().filter(|word| word.text.starts_with("CONFIG_")) {
        problems.push(format!(
            "{path}:{}: {} is asked outside the crate root: core is the same in every build",
            word.line, word.text
        ));
    }
    Ok(problems)
}

/// The module of core that a path leads to, when it starts at the root: by `crate`, or by as many `super` as the
/// file and the inline modules around it are deep.
fn core_module(path: &Path, depth: usize) -> Option<&str> {
    let first = path.segments.first()?;
    if first == "crate" || first == "hitless_core" {
        return path.segments.get(1).map(String::as_str);
    }
    let ups = path
        .segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    (ups > 0 && ups >= depth + path.modules).then(|| path.segments.get(ups).map(String::as_str))?
}

fn glue(path: &str, text: &str) -> Result<Vec<String>> {
    let rest = path.trim_start_matches(GLUE);
    // The border to C, and core, which is linked in.
    if rest == "entry.rs" || rest.starts_with("entry/") || rest.starts_with("core/") {
        return Ok(Vec::new());
    }
    Ok(paths(&words(path, text)?)
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

    fn core_problems(path: &str, text: &str) -> usize {
        core(path, text).unwrap().len()
    }

    #[test]
    fn core_imports_downward_only() {
        assert_eq!(
            core_problems(
                "core/src/wire/pci.rs",
                "use crate::abi::pci::X; use crate::model::Y;"
            ),
            0
        );
        assert_eq!(
            core_problems("core/src/wire/pci.rs", "use crate::{abi::X, rules::Y};"),
            1
        );
        assert_eq!(
            core_problems("core/src/abi.rs", "fn f(x: crate::model::X) {}"),
            1
        );
        assert_eq!(
            core_problems("core/src/model/pci.rs", "// use crate::wire::X;"),
            0
        );
        assert_eq!(
            core_problems("core/src/vtd/swap.rs", "use crate::vtd::bits;"),
            0
        );
        assert_eq!(
            core_problems("core/src/vtd/swap.rs", "use crate::model::pci::Bdf;"),
            1
        );
    }

    #[test]
    fn a_way_up_is_an_import_too() {
        assert_eq!(
            core_problems("core/src/abi/pci.rs", "use super::header::H;"),
            0
        );
        assert_eq!(
            core_problems("core/src/abi/pci.rs", "use super::super::model::H;"),
            1
        );
        assert_eq!(
            core_problems("core/src/abi.rs", "mod tests { use super::model::X; }"),
            0
        );
        assert_eq!(
            core_problems(
                "core/src/abi.rs",
                "mod tests { use super::super::model::X; }"
            ),
            1
        );
    }

    #[test]
    fn core_has_a_layer_for_each_module_and_no_configuration() {
        assert_eq!(core_problems("core/src/other.rs", ""), 1);
        assert_eq!(
            core_problems("core/src/abi.rs", "#[cfg(CONFIG_SMP)] fn f() {}"),
            1
        );
        assert_eq!(
            core_problems(CORE_ROOT, "#![cfg_attr(not(CONFIG_RUST), no_std)]"),
            0
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
