// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The border between glue and the kernel's C, from both sides.

use anyhow::Result;

use super::repository::{Outcome, Repository};
use super::tokens::code;

const GLUE: &str = "kernel/tree/drivers/hitless/";

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut problems = Vec::new();
    for (path, text) in repository.texts(|path| path.starts_with("kernel/tree/"))? {
        if path.starts_with(GLUE) && path.ends_with(".rs") {
            problems.extend(glue(path, &text)?);
        } else if path.ends_with(".c") || path.ends_with(".h") {
            problems.extend(seam(path, &text));
        }
    }
    Ok(Outcome {
        problems,
        ..Outcome::default()
    })
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

    #[test]
    fn glue_reaches_c_at_its_border_only() {
        let text = "use kernel::bindings; fn f() { unsafe { bindings::x() } } use kernel::{bindings::y, prelude::*};";
        let count = |file: &str, text| glue(&format!("{GLUE}{file}"), text).unwrap().len();
        assert_eq!(count("tables.rs", text), 3);
        assert_eq!(count("entry.rs", text), 0);
        assert_eq!(count("entry/pci.rs", text), 0);
        assert_eq!(count("tables.rs", "use kernel::prelude::*;"), 0);
    }

    #[test]
    fn seams_see_headers_of_linux() {
        let good = "#include <linux/hitless.h>\n#include <linux/hitless/pci.h>\n#include \"hitless_seam.h\"\n";
        assert!(seam("x.c", good).is_empty());
        let bad = "#include \"../../hitless/abi.h\"\n# include <hitless/core.h>\n";
        assert_eq!(seam("x.c", bad).len(), 2);
    }
}
