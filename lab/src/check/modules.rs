// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of a crate, and which of them uses an item of which other one.
//!
//! A path is followed through the modules, imports and re-exports of its crate to the file that has the item. A glob
//! (`pub use inner::*`) names nothing, so a path through one leads to the file with the glob. Inline modules
//! (`mod x { ... }`) are part of their file, and code of `#[cfg(test)]` is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};

use super::repository::Repository;
use super::rust::{end_of_item, Words};

/// One file uses an item of another.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    /// The first line of `from` that makes the arrow.
    line: usize,
    /// The path in that line.
    path: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            line,
            path,
        } = self;
        write!(f, "{from}:{line}: {path} is in {to}")
    }
}

/// What one root file and the files below it are.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) files: usize,
    /// One for each pair of files.
    pub(super) arrows: Vec<Arrow>,
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
    /// What it imports, by the names that are given to it.
    names: BTreeMap<String, Path>,
    globs: Vec<Path>,
    /// How many inline modules are around what is being read.
    depth: usize,
}

/// How many imports of imports are followed.
const STEPS: usize = 16;

impl Crate {
    /// Reads the crate whose root is `root`.
    pub(super) fn read(repository: &Repository, root: &str) -> Result<Self> {
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
                    format!(
                        "{} declares the module {below}, which has no file",
                        module.path
                    )
                })?;
                waiting.push((file, place));
            }
            modules.insert(place, module);
        }
        let arrows = modules.keys().flat_map(|place| arrows(&modules, place));
        Ok(Self {
            arrows: arrows.collect(),
            files: modules.len(),
        })
    }
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
                        at += usize::from(all.words[at] == ",");
                    }
                    return at + 1;
                }
                "," | "}" | ";" => break,
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
        if let Some(path) = self.uses(all.lines[at - 1], path) {
            match name.as_str() {
                "*" => self.globs.push(path[..path.len() - 1].to_vec()),
                _ => drop(self.names.insert(name, path)),
            }
        }
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
    let named = module
        .names
        .get(first)
        .and_then(|target| resolve(modules, here, &[&target[..], rest].concat(), false, steps));
    let glob = |glob: &Path| {
        let (there, is_item) = resolve(modules, here, glob, false, steps)?;
        (!is_item && there != place)
            .then(|| resolve(modules, there, path, false, steps))
            .flatten()
    };
    named
        .or_else(|| module.globs.iter().find_map(glob))
        .or(inside.then_some((place, true)))
}

fn arrows(modules: &Modules, here: &Path) -> Vec<Arrow> {
    let module = &modules[here];
    let mut known = BTreeSet::from([here]);
    let mut found = Vec::new();
    for (line, path) in &module.uses {
        let glob = path.last().is_some_and(|last| last == "*");
        let target = &path[..path.len() - usize::from(glob)];
        // To bring a module's name in uses nothing of it yet; the paths that begin with the name do.
        match resolve(modules, here, target, false, STEPS) {
            Some((to, is_item)) if (is_item || glob) && known.insert(to) => found.push(Arrow {
                from: module.path.clone(),
                to: modules[to].path.clone(),
                line: *line,
                path: path.join("::"),
            }),
            _ => {}
        }
    }
    found
}
