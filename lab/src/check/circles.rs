// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No circle among the files of a crate, and no use of a higher floor.

use std::collections::BTreeMap;

use anyhow::Result;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::modules::{Arrow, Crate};
use super::repository::{Outcome, Repository};

const GLUE: &str = "kernel/tree/drivers/hitless";
const GLUE_ROOT: &str = "hitless_main.rs";

/// The name of a floor, and the beginnings of the paths of its modules.
type Floor = (&'static str, &'static [&'static str]);

/// Where a crate's files are, and its floors from the top. A file uses its own floor and those below it. What no floor names is on
/// the floor without names, and the root of such a crate declares modules and does nothing else.
const FLOORS: &[(&str, &[Floor])] = &[
    (
        "core/src",
        &[("rules", &["rules"]), ("middle", &[]), ("bytes", &["abi"])],
    ),
    (
        // C and LUO ask us, we act, we ask C.
        GLUE,
        &[
            ("top", &["entry", "luo"]),
            ("middle", &[]),
            ("ground", &["seam", "failure", "lent", "part", "running"]),
        ],
    ),
];

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (folder, roots) in crates(repository)? {
        if roots.is_empty() {
            outcome.problems.push(format!(
                "{folder}: which file is the root of this crate? Its Cargo.toml does not say"
            ));
        }
        let (mut files, mut arrows) = (0, 0);
        for root in roots {
            let found = Crate::read(repository, &root)?;
            files += found.files.len();
            let graph = graph(&found.arrows);
            arrows += graph.edge_count();
            outcome.problems.extend(circles(&graph));
            outcome.problems.extend(floors(&root, &found.arrows));
        }
        outcome
            .notes
            .push(format!("{files:4} files, {arrows:4} arrows in {folder}"));
    }
    Ok(outcome)
}

/// Folders with the root files of the crates that are built from them.
fn crates(repository: &Repository) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found = BTreeMap::new();
    for (path, text) in repository.texts(|path| path.ends_with("/Cargo.toml"))? {
        let folder = path.trim_end_matches("/Cargo.toml");
        let manifest: toml::Table = text.parse()?;
        let named = ["lib", "bin"]
            .iter()
            .filter_map(|key| manifest.get(*key))
            .flat_map(|section| {
                let sections = section
                    .as_array()
                    .map_or(std::slice::from_ref(section), Vec::as_slice);
                sections
                    .iter()
                    .filter_map(|section| section.get("path")?.as_str())
            });
        let usual = ["src/lib.rs", "src/main.rs"].into_iter();
        let mut roots: Vec<String> = named
            .chain(usual)
            .map(|root| format!("{folder}/{root}"))
            .collect();
        roots.retain(|root| repository.files.contains(root));
        roots.sort();
        roots.dedup();
        found.insert(folder.to_owned(), roots);
    }
    if repository.files.iter().any(|path| path.starts_with(GLUE)) {
        found.insert(GLUE.to_owned(), vec![format!("{GLUE}/{GLUE_ROOT}")]);
    }
    Ok(found)
}

type Graph<'a> = DiGraphMap<&'a str, &'a Arrow>;

fn graph(arrows: &[Arrow]) -> Graph<'_> {
    let edges = arrows
        .iter()
        .map(|arrow| (arrow.from.as_str(), arrow.to.as_str(), arrow));
    Graph::from_edges(edges)
}

fn circles(graph: &Graph<'_>) -> Vec<String> {
    let mut circles = tarjan_scc(graph);
    circles.retain(|circle| circle.len() > 1);
    circles
        .into_iter()
        .map(|mut circle| {
            circle.sort_unstable();
            let inside = |from, to| circle.contains(&from) && circle.contains(&to);
            let mut lines: Vec<String> = graph
                .all_edges()
                .filter(|(from, to, _)| inside(from, to))
                .map(|(.., arrow)| format!("\n  {arrow}"))
                .collect();
            lines.sort();
            format!(
                "{} files use each other in a circle: {}; move what they share into a file below them{}",
                circle.len(),
                circle.join(", "),
                lines.concat()
            )
        })
        .collect()
}

fn floors(root: &str, arrows: &[Arrow]) -> Vec<String> {
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Some((_, floors)) = FLOORS.iter().find(|(known, _)| *known == folder) else {
        return Vec::new();
    };
    let floor = |path: &str| {
        let module = path[folder.len()..]
            .trim_start_matches('/')
            .trim_end_matches(".rs");
        let is_in = |name: &&str| module == *name || module.starts_with(&format!("{name}/"));
        let named = floors.iter().position(|(_, names)| names.iter().any(is_in));
        named.or_else(|| floors.iter().position(|(_, names)| names.is_empty()))
    };
    let problem = |arrow: &Arrow| {
        if arrow.from == root || arrow.to == root {
            return Some(format!(
                "{arrow}: the root of the crate declares modules and does nothing else"
            ));
        }
        let (from, to) = (floor(&arrow.from)?, floor(&arrow.to)?);
        (to < from).then(|| {
            format!(
                "{arrow}: the {} floor uses the {} floor",
                floors[from].0, floors[to].0
            )
        })
    };
    arrows.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    /// What is found in a crate of these files.
    fn checked(folder: &str, files: &[(&str, &str)]) -> Outcome {
        let files: Vec<(String, &str)> = files
            .iter()
            .map(|(path, text)| (format!("{folder}{path}"), *text))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        let (_dir, repository) = pretend(&files);
        run(&repository).unwrap()
    }

    #[test]
    fn a_crate_without_a_circle_passes() {
        let outcome = checked("sim/", &[
            ("Cargo.toml", ""),
            ("src/lib.rs", "pub mod a; mod b; mod d { pub mod e; }"),
            ("src/a.rs", "mod c; use crate::b::{self, B}; fn f() { b::g(); c::h(); }\n#[cfg(test)] mod tests { use super::*; }"),
            ("src/a/c.rs", "use crate::b; pub fn h() {}\n// use super::f;\n#[cfg(test)] use super::f;"),
            ("src/b.rs", "use std::fmt; pub struct B; pub fn g() { crate::d::e::x(); }"),
            ("src/d/e.rs", "pub fn x() {}"),
        ]);
        assert_eq!(outcome.problems, Vec::<String>::new());
        assert_eq!(outcome.notes, ["   5 files,    3 arrows in sim"]);
    }

    #[test]
    fn a_circle_is_told_with_its_lines() {
        let outcome = checked(
            "user/x/",
            &[
                ("Cargo.toml", "[[bin]]\npath = \"src/x.rs\"\n"),
                ("src/x.rs", "mod a; mod b; mod c; mod d;"),
                ("src/a.rs", "\nuse super::b::f;"),
                ("src/b.rs", "fn f() { say!(\"{}\", crate::c::g()) }"),
                (
                    "src/c.rs",
                    "use crate::*;\nuse crate::a as z;\nfn g() { z::h(); crate::d::i() }",
                ),
                ("src/d.rs", ""),
            ],
        );
        assert_eq!(outcome.problems.len(), 1, "{outcome:?}");
        let problem = &outcome.problems[0];
        assert!(problem.starts_with("3 files"), "{problem}");
        for line in [
            "user/x/src/a.rs:2: super::b::f is in user/x/src/b.rs",
            "user/x/src/b.rs:1: crate::c::g is in user/x/src/c.rs",
            "user/x/src/c.rs:3: z::h is in user/x/src/a.rs",
        ] {
            assert!(problem.contains(line), "{problem}");
        }
        assert!(!problem.contains("d.rs"), "{problem}");
    }

    #[test]
    fn a_re_export_is_followed_and_is_an_arrow_itself() {
        let files = [
            ("Cargo.toml", ""),
            ("src/lib.rs", "mod a; mod b;"),
            (
                "src/a.rs",
                "mod inner; pub use inner::Thing; use crate::b::B;",
            ),
            ("src/a/inner.rs", "pub struct Thing;"),
            ("src/b.rs", "use crate::a::Thing; pub struct B;"),
        ];
        let outcome = checked("core/", &files);
        assert_eq!(outcome.problems, Vec::<String>::new());
        assert_eq!(outcome.notes, ["   4 files,    3 arrows in core"]);

        let mut circle = files;
        circle[3].1 = "use super::super::b::B;";
        let outcome = checked("core/", &circle);
        assert_eq!(outcome.problems.len(), 1);
        assert!(outcome.problems[0].starts_with("2 files"), "{outcome:?}");
        circle[3].1 = "";
        circle[4].1 = "use crate::a::Other; pub struct B;";
        assert!(checked("core/", &circle).problems[0].contains("core/src/a.rs, core/src/b.rs"));
    }

    #[test]
    fn glue_has_floors() {
        let outcome = checked("kernel/tree/drivers/hitless/", &[
            ("hitless_main.rs", "mod entry; mod luo; mod incoming; mod seam; mod failure;"),
            ("entry.rs", "mod pci;"),
            ("entry/pci.rs", "use crate::incoming::A; use crate::failure::F; use crate::seam::ask; const T: crate::L = 0;"),
            ("luo.rs", ""),
            ("incoming.rs", "use crate::failure::F;\nuse crate::luo::L;"),
            ("seam.rs", "use crate::failure::F;\nuse crate::incoming::A;"),
            ("failure.rs", ""),
        ]);
        let expected = [
            ("entry/pci.rs:1", "the root of the crate"),
            ("incoming.rs:2", "the middle floor uses the top floor"),
            ("seam.rs:2", "the ground floor uses the middle floor"),
        ];
        assert_eq!(outcome.problems.len(), expected.len(), "{outcome:#?}");
        for (place, words) in expected {
            let said = |problem: &String| problem.contains(place) && problem.contains(words);
            assert!(outcome.problems.iter().any(said), "{place}: {outcome:#?}");
        }
    }
}
