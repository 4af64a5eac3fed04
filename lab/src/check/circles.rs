// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No circle among the files of a crate, and no use of a higher floor.

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

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let exists = |root: &String| repository.files.contains_key(root);
    let mut crates = Vec::new();
    for (folder, manifest) in repository.manifests() {
        let named = manifest.lines().filter_map(|line| {
            let path = line.strip_prefix("path = \"")?;
            path.strip_suffix('"')
        });
        let all = named.chain(["src/lib.rs", "src/main.rs"]);
        let mut roots: Vec<String> = all.map(|root| format!("{folder}/{root}")).collect();
        roots.retain(exists);
        roots.sort();
        roots.dedup();
        if roots.is_empty() {
            outcome.problems.push(format!(
                "{folder}: which file is the root of this crate? Its Cargo.toml does not say"
            ));
        }
        crates.push((folder, roots));
    }
    crates.push((GLUE, vec![format!("{GLUE}/{GLUE_ROOT}")]));
    crates.sort();
    for (folder, roots) in crates {
        let (mut files, mut arrows) = (0, 0);
        for root in roots {
            let found = Crate::read(repository, &root)?;
            files += found.files;
            arrows += found.arrows.len();
            outcome.problems.extend(circles(&found.arrows));
            outcome.problems.extend(floors(&root, &found.arrows));
        }
        let note = format!("{files:4} files, {arrows:4} arrows in {folder}");
        outcome.notes.push(note);
    }
    Ok(())
}

fn circles(arrows: &[Arrow]) -> Vec<String> {
    let edges = arrows.iter();
    let edges = edges.map(|arrow| (arrow.from.as_str(), arrow.to.as_str()));
    let mut circles = tarjan_scc(&DiGraphMap::<&str, ()>::from_edges(edges));
    circles.retain(|circle| circle.len() > 1);
    let told = circles.iter_mut().map(|circle| {
        circle.sort_unstable();
        let inside = |path: &String| circle.contains(&path.as_str());
        let lines = arrows
            .iter()
            .filter(|arrow| inside(&arrow.from) && inside(&arrow.to));
        let mut lines: Vec<String> = lines.map(|arrow| format!("\n  {arrow}")).collect();
        lines.sort();
        format!(
            "{} files use each other in a circle: {}; move what they share into a file below them{}",
            circle.len(),
            circle.join(", "),
            lines.concat()
        )
    });
    told.collect()
}

fn floors(root: &str, arrows: &[Arrow]) -> Vec<String> {
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Some((_, floors)) = FLOORS.iter().find(|(known, _)| *known == folder) else {
        return Vec::new();
    };
    let floor = |path: &str| {
        let module = path[folder.len()..].trim_start_matches('/');
        let top = module.split(['/', '.']).next().unwrap_or(module);
        let named = floors.iter().position(|(_, names)| names.contains(&top));
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
