// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No circle among the files of a crate, and no use of a higher floor.
//!
//! A path is followed through the modules, imports and re-exports of its crate to the file that has the item. A glob
//! (`pub use inner::*`) names nothing, so a path through one leads to the file with the glob. Inline modules
//! (`mod x { ... }`) are part of their file, and code of `#[cfg(test)]` is left out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::repository::{Outcome, Repository};
use super::rust::{end_of_item, Words};

const GLUE: &str = "kernel/tree/drivers/hitless";
const GLUE_ROOT: &str = "kernel/tree/drivers/hitless/hitless_main.rs";
/// How many imports of imports are followed.
const STEPS: usize = 16;

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
            (
                "ground",
                &["seam", "failure", "lent", "log", "part", "running"],
            ),
        ],
    ),
];

/// One file uses an item of another.
#[derive(Debug)]
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    /// The first line that makes the arrow, and the path in it.
    told: String,
}

/// Names from the first; `*` stands for a glob.
type Path = Vec<String>;

/// The modules of a crate, by their paths from its root.
type Modules = BTreeMap<Path, Module>;

/// A file.
#[derive(Debug, Default)]
struct Module {
    path: String,
    /// The modules that it declares.
    children: Vec<String>,
    /// Whatever it imports, and the paths in its code, each with its line.
    uses: Vec<(usize, Path)>,
    /// What it imports, each with the name that is given to it.
    imports: Vec<(String, Path)>,
    /// How many inline modules are around what is being read.
    depth: usize,
}

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let mut crates = vec![(GLUE, BTreeSet::from([GLUE_ROOT.to_owned()]))];
    for (folder, manifest) in repository.manifests() {
        let named = manifest.lines().filter_map(|line| {
            let path = line.strip_prefix("path = \"")?;
            path.strip_suffix('"')
        });
        let all = named.chain(["src/lib.rs", "src/main.rs"]);
        let mut roots: BTreeSet<String> = all.map(|root| format!("{folder}/{root}")).collect();
        roots.retain(|root| repository.files.contains_key(root));
        if roots.is_empty() {
            outcome.problems.push(format!(
                "{folder}: which file is the root of this crate? Its Cargo.toml does not say"
            ));
        }
        crates.push((folder, roots));
    }
    crates.sort();
    for (folder, roots) in crates {
        let (mut files, mut count) = (0, 0);
        for root in roots {
            let modules = read(repository, &root)?;
            let arrows = modules.keys().flat_map(|place| arrows(&modules, place));
            let arrows: Vec<Arrow<'_>> = arrows.collect();
            files += modules.len();
            count += arrows.len();
            outcome.problems.extend(circles(&arrows));
            let below = root.rsplit_once('/').map_or("", |(below, _)| below);
            outcome.problems.extend(floors(below, &root, &arrows));
        }
        let note = format!("{files:4} files, {count:4} arrows in {folder}");
        outcome.notes.push(note);
    }
    Ok(())
}

/// Reads the crate whose root is `root`.
fn read(repository: &Repository, root: &str) -> Result<Modules> {
    let mut modules = Modules::new();
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut waiting = vec![(root.to_owned(), Path::new())];
    while let Some((path, place)) = waiting.pop() {
        let words = Words::read(&path, repository.text(&path)?)?;
        let mut module = Module {
            path,
            ..Module::default()
        };
        module.code(&words, 0);
        for child in &module.children {
            let place = [&place[..], std::slice::from_ref(child)].concat();
            let below = format!("{folder}/{}", place.join("/"));
            let mut beside = [format!("{below}.rs"), format!("{below}/mod.rs")].into_iter();
            let file = beside.find(|file| repository.files.contains_key(file));
            let file = file.with_context(|| {
                let path = &module.path;
                format!("{path} declares the module {below}, which has no file")
            })?;
            waiting.push((file, place));
        }
        modules.insert(place, module);
    }
    Ok(modules)
}

impl Module {
    /// Reads code up to the bracket that closes it, and returns what is behind that.
    fn code(&mut self, all: &Words, mut at: usize) -> usize {
        let words = &all.words;
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        while at < words.len() {
            match (word(at), word(at + 1), word(at + 2)) {
                ("}", ..) => return at + 1,
                ("{", ..) => at = self.code(all, at + 1),
                ("#", "[", "cfg") if is_for_tests(&words[at + 3..]) => {
                    at = end_of_item(words, at);
                }
                ("mod", _, "{") => {
                    self.depth += 1;
                    at = self.code(all, at + 3);
                    self.depth -= 1;
                }
                ("mod", name, ";") => {
                    self.children.push(name.to_owned());
                    at += 3;
                }
                // `use<'a>` in a type imports nothing.
                ("use", next, _) if next != "<" => at = self.imports(all, at + 1, &[]),
                // What follows generics, as in `Vec::<u8>::new`, is no path of its own.
                (first, "::", _) if is_name(first) && (at == 0 || word(at - 1) != "::") => {
                    let begin = at;
                    while word(at + 1) == "::" && is_name(word(at + 2)) {
                        at += 2;
                    }
                    let path: Path = words[begin..=at].iter().step_by(2).cloned().collect();
                    if path.len() > 1 {
                        self.uses(all.lines[begin], path);
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
        at
    }

    /// Reads what a `use` names, after the names `before`; returns where it ends.
    fn imports(&mut self, all: &Words, mut at: usize, before: &[String]) -> usize {
        let mut path = before.to_vec();
        let mut name = None;
        while let Some(word) = all.words.get(at) {
            match word.as_str() {
                "{" => {
                    at += 1;
                    while all.words[at] != "}" {
                        at = self.imports(all, at, &path);
                        at += usize::from(all.words[at] != "}");
                    }
                    return at + 1;
                }
                "," | ";" | "}" | ")" | "]" => break,
                "::" => {}
                "as" => {
                    at += 1;
                    name = all.words.get(at).cloned();
                }
                "self" if !before.is_empty() => {}
                _ => path.push(word.clone()),
            }
            at += 1;
        }
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        let path = self.uses(all.lines[at - 1], path);
        self.imports.extend(path.map(|path| (name, path)));
        at
    }

    /// Notes a path, as it reads from the file's own module, if it leads out of the inline modules around it.
    fn uses(&mut self, line: usize, path: Path) -> Option<Path> {
        let ups = path.iter().take_while(|name| *name == "super").count();
        if ups > 0 && ups <= self.depth {
            return None;
        }
        let path = path[ups.min(self.depth)..].to_vec();
        self.uses.push((line, path.clone()));
        Some(path)
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Is what follows `#[cfg` the rest of `#[cfg(test)]` or `#[cfg(all(test, ...))]`?
fn is_for_tests(words: &[String]) -> bool {
    let end = words.iter().position(|word| word == "]");
    let inside = &words[..end.unwrap_or(0)];
    let has = |wanted: &str| inside.iter().any(|word| word == wanted);
    has("test") && !has("not")
}

/// The module that a path leads to from `here`, and whether it names an item there and not the module itself. Unless it is
/// `inside` the crate already, its first name has to be known here.
fn resolve<'a>(
    modules: &'a Modules,
    here: &[String],
    path: &[String],
    inside: bool,
    steps: usize,
) -> Option<(&'a Path, bool)> {
    let (place, module) = modules.get_key_value(here)?;
    let Some((first, rest)) = path.split_first() else {
        return Some((place, false));
    };
    let steps = steps.checked_sub(1)?;
    let up = here.len().checked_sub(1);
    match first.as_str() {
        "crate" => return resolve(modules, &[], rest, true, steps),
        "self" => return resolve(modules, here, rest, true, steps),
        "super" => return resolve(modules, &here[..up?], rest, true, steps),
        _ => {}
    }
    let child = [here, std::slice::from_ref(first)].concat();
    if modules.contains_key(&child) {
        return resolve(modules, &child, rest, true, steps);
    }
    let imports = |name| {
        module
            .imports
            .iter()
            .filter(move |(known, _)| known == name)
    };
    let named = |(_, target): &(String, Path)| {
        resolve(modules, here, &[&target[..], rest].concat(), false, steps)
    };
    let through = |(_, glob): &(String, Path)| {
        let (there, is_item) = resolve(modules, here, &glob[..glob.len() - 1], false, steps)?;
        let there = Some(there).filter(|there| !is_item && *there != place)?;
        resolve(modules, there, path, false, steps)
    };
    let named = imports(first.as_str()).find_map(named);
    named
        .or_else(|| imports("*").find_map(through))
        .or(inside.then_some((place, true)))
}

fn arrows<'a>(modules: &'a Modules, here: &Path) -> Vec<Arrow<'a>> {
    let from = modules[here].path.as_str();
    let mut known = BTreeSet::from([here]);
    let mut found = Vec::new();
    for (line, path) in &modules[here].uses {
        let glob = path.last().is_some_and(|last| last == "*");
        let target = &path[..path.len() - usize::from(glob)];
        let Some((place, is_item)) = resolve(modules, here, target, false, STEPS) else {
            continue;
        };
        // To bring a module's name in uses nothing of it yet; the paths that begin with the name do.
        if (is_item || glob) && known.insert(place) {
            let to = modules[place].path.as_str();
            let told = format!("{from}:{line}: {} is in {to}", path.join("::"));
            found.push(Arrow { from, to, told });
        }
    }
    found
}

fn circles(arrows: &[Arrow<'_>]) -> Vec<String> {
    let edges = arrows.iter().map(|arrow| (arrow.from, arrow.to));
    let mut circles = tarjan_scc(&DiGraphMap::<&str, ()>::from_edges(edges));
    circles.retain(|circle| circle.len() > 1);
    let told = circles.iter_mut().map(|circle| {
        circle.sort_unstable();
        let inside = |arrow: &&Arrow<'_>| circle.contains(&arrow.from) && circle.contains(&arrow.to);
        let lines = arrows.iter().filter(inside);
        let mut lines: Vec<&str> = lines.map(|arrow| arrow.told.as_str()).collect();
        lines.sort_unstable();
        format!(
            "{} files use each other in a circle: {}; move what they share into a file below them\n  {}",
            circle.len(),
            circle.join(", "),
            lines.join("\n  ")
        )
    });
    told.collect()
}

/// What uses a higher floor.
fn floors(folder: &str, root: &str, arrows: &[Arrow<'_>]) -> Vec<String> {
    let floors = FLOORS.iter().find(|(known, _)| *known == folder);
    let floors = floors.map_or(&[][..], |(_, floors)| floors);
    let floor = |path: &str| {
        let module = path[folder.len()..].split(['/', '.']).nth(1)?;
        let named = floors.iter().position(|(_, names)| names.contains(&module));
        named.or_else(|| floors.iter().position(|(_, names)| names.is_empty()))
    };
    let problem = |Arrow { from, to, told }: &Arrow<'_>| {
        let (above, below) = (floor(from)?, floor(to)?);
        if *from == root || *to == root {
            return Some(format!(
                "{told}: the root of the crate declares modules and does nothing else"
            ));
        }
        let names = (floors[above].0, floors[below].0);
        (below < above).then(|| format!("{told}: the {} floor uses the {} floor", names.0, names.1))
    };
    arrows.iter().filter_map(problem).collect()
}
