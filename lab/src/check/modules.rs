// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of a crate, and which of them uses an item of which other one.
//!
//! A path is followed through the modules, imports and re-exports of its crate to the file that has the item. A glob
//! (`pub use inner::*`) names nothing, so a path through one leads to the file with the glob.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};

use super::repository::Repository;
use super::tokens::{self, Code};

/// One file uses an item of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    /// The first line of `from` that makes the arrow.
    pub(super) line: usize,
    /// The path in that line.
    pub(super) path: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {} is in {}",
            self.from, self.line, self.path, self.to
        )
    }
}

/// What one root file and the files below it are, as paths from the root of the repository.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) files: Vec<String>,
    /// One for each pair of files.
    pub(super) arrows: Vec<Arrow>,
}

/// A module's path below the root of its crate.
type Place = Vec<String>;

#[derive(Debug)]
struct Module {
    file: String,
    /// Names that a `use` brings in, and the path from the root that each stands for.
    names: BTreeMap<String, Place>,
    globs: Vec<Place>,
}

/// How many imports of imports are followed.
const STEPS: usize = 16;

impl Crate {
    /// Reads the crate whose root is `root`.
    pub(super) fn read(repository: &Repository, root: &str) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut codes = Vec::new();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut waiting = vec![(root.to_owned(), Place::new(), folder.to_owned())];
        while let Some((file, place, folder)) = waiting.pop() {
            let code = tokens::code(&file, &repository.text(&file)?)?;
            for inner in [&Place::new()].into_iter().chain(&code.inline) {
                let module = Module {
                    file: file.clone(),
                    names: BTreeMap::new(),
                    globs: Vec::new(),
                };
                modules.insert([&place[..], inner].concat(), module);
            }
            for child in &code.files {
                let below = format!("{folder}/{}", child.join("/"));
                let beside = [format!("{below}.rs"), format!("{below}/mod.rs")];
                let path = beside
                    .into_iter()
                    .find(|path| repository.files.contains(path));
                let path = path.with_context(|| {
                    format!("{file} declares the module {below}, which has no file")
                })?;
                waiting.push((path, [&place[..], child].concat(), below));
            }
            codes.push((file, place, code));
        }
        // Once more for what is imported by way of an import that stands further down.
        for (_, place, code) in codes.iter().chain(&codes) {
            import(&mut modules, place, code);
        }
        Ok(Self {
            arrows: codes
                .iter()
                .flat_map(|(file, place, code)| arrows(&modules, file, place, code))
                .collect(),
            files: codes.into_iter().map(|(file, ..)| file).collect(),
        })
    }
}

type Modules = BTreeMap<Place, Module>;

/// Enters what the `use`s of a file bring into its modules.
fn import(modules: &mut Modules, place: &Place, code: &Code) {
    for path in &code.paths {
        let Some(name) = &path.name else { continue };
        let here = [&place[..], &path.inside].concat();
        let glob = name == "*";
        let count = path.segments.len() - usize::from(glob);
        let Some(target) = start(modules, &here, &path.segments[..count]) else {
            continue;
        };
        if let Some(module) = modules.get_mut(&here) {
            match glob {
                true => module.globs.push(target),
                false => drop(module.names.insert(name.clone(), target)),
            }
        }
    }
}

/// A path as it reads from the root of the crate, if it starts in the crate. Only its first segment is looked up.
fn start(modules: &Modules, here: &Place, segments: &[String]) -> Option<Place> {
    let (first, rest) = segments.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" | "super" => {
            let ups = segments.iter().take_while(|word| *word == "super").count();
            let depth = here.len().checked_sub(ups)?;
            Some([&here[..depth], &segments[ups.max(1)..]].concat())
        }
        _ => Some([&named(modules, here, first, STEPS)?[..], rest].concat()),
    }
}

/// What a name means in a module: one of its modules or imports, or one of those that a glob brings in.
fn named(modules: &Modules, here: &Place, name: &String, steps: usize) -> Option<Place> {
    let module = modules.get(here)?;
    let child = [&here[..], std::slice::from_ref(name)].concat();
    if modules.contains_key(&child) {
        return Some(child);
    }
    let globs = || {
        module
            .globs
            .iter()
            .filter(|glob| steps > 0 && *glob != here)
    };
    module
        .names
        .get(name)
        .cloned()
        .or_else(|| globs().find_map(|glob| named(modules, glob, name, steps.checked_sub(1)?)))
}

/// The module that has the item at a path from the root, and whether the path names an item and not the module itself.
fn owner(modules: &Modules, mut path: Place) -> Option<(&Module, bool)> {
    for _ in 0..STEPS {
        let is_module = |depth: &usize| modules.contains_key(&path[..*depth]);
        let (here, rest) = path.split_at((0..=path.len()).rev().find(is_module)?);
        let here = here.to_vec();
        let Some(name) = rest.first() else {
            return Some((&modules[&here], false));
        };
        match named(modules, &here, name, STEPS) {
            Some(target) => path = [&target[..], &rest[1..]].concat(),
            None => return Some((&modules[&here], true)),
        }
    }
    None
}

fn arrows(modules: &Modules, file: &str, place: &Place, code: &Code) -> Vec<Arrow> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for path in &code.paths {
        let here = [&place[..], &path.inside].concat();
        let glob = path.segments.last().is_some_and(|last| last == "*");
        let count = path.segments.len() - usize::from(glob);
        let segments = &path.segments[..count];
        let Some(start) = start(modules, &here, segments) else {
            continue;
        };
        let Some((module, is_item)) = owner(modules, start) else {
            continue;
        };
        // To bring a module's name in uses nothing of it yet; the paths that begin with the name do.
        let to = &module.file;
        if (is_item || glob) && to != file && known.insert(to) {
            found.push(Arrow {
                from: file.to_owned(),
                to: to.clone(),
                line: path.line,
                path: path.segments.join("::"),
            });
        }
    }
    found
}
