// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab check`: what reviewers would otherwise have to look for.
//!
//! | module | what |
//! |---|---|
//! | [`repository`] | the files of the repository, and what a check finds |
//! | [`tokens`] | Rust files as tokens, so that comments and strings are never mistaken for code |
//! | [`modules`], [`circles`] | which file uses which, and that none does so in a circle |
//! | [`layers`], [`crates`] | the border between glue and C, and which crate depends on which |
//! | [`unsafety`] | where unsafe code may be |
//! | [`c`], [`seams`] | how much C there is of ours |
//! | [`hardware`] | where the words of one kind of IOMMU may stand |
//! | [`documents`] | documents whose tables are made from the sources |
//! | [`text`] | licences, left-overs |
//! | [`tools`] | rustfmt, clippy |
//! | [`kernel`] | do the patches apply, does checkpatch accept them? |

use std::process::ExitCode;

use anyhow::Result;

use crate::trouble::trouble;
use repository::{Outcome, Repository};

mod c;
mod circles;
mod crates;
mod documents;
mod hardware;
mod kernel;
mod layers;
mod modules;
mod repository;
mod seams;
mod text;
mod tokens;
mod tools;
mod unsafety;

/// Arguments of `cargo lab check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run these checks only (see --list).
    names: Vec<String>,
    /// List the checks and stop.
    #[arg(long)]
    list: bool,
    /// Write the documents anew whose tables are made from the sources, and stop.
    #[arg(long, conflicts_with_all = ["names", "list"])]
    write: bool,
}

struct Check {
    name: &'static str,
    about: &'static str,
    run: fn(&Repository) -> Result<Outcome>,
}

/// All checks; those that take milliseconds come first.
const CHECKS: &[Check] = &[
    Check {
        name: "spdx",
        about: "every source file says its licence, and the one of its folder",
        run: text::licences,
    },
    Check {
        name: "left-overs",
        about: "nothing is put off in a comment",
        run: text::left_overs,
    },
    Check {
        name: "layers",
        about: "glue and C meet at their border only",
        run: layers::run,
    },
    Check {
        name: "circles",
        about: "no files of a crate use each other in a circle, and glue uses no higher floor",
        run: circles::run,
    },
    Check {
        name: "crates",
        about: "crates depend on what they may",
        run: crates::run,
    },
    Check {
        name: "unsafe",
        about: "unsafe code is where it may be",
        run: unsafety::run,
    },
    Check {
        name: "seams",
        about: "there is little C: in existing files, in seam files, in one function",
        run: seams::run,
    },
    Check {
        name: "hardware",
        about: "words of one kind of IOMMU stand in its own places",
        run: hardware::run,
    },
    Check {
        name: "documents",
        about: "tables in documents are what the sources say, and each word is explained once",
        run: documents::run,
    },
    Check {
        name: "format",
        about: "cargo fmt has nothing to do",
        run: tools::format,
    },
    Check {
        name: "clippy",
        about: "clippy has nothing to say",
        run: tools::clippy,
    },
    Check {
        name: "patches",
        about: "the patches apply to the pinned release, one after the other",
        run: kernel::patches,
    },
    Check {
        name: "checkpatch",
        about: "checkpatch.pl finds no error in patches and new C files",
        run: kernel::checkpatch,
    },
];

/// Runs `cargo lab check`.
pub fn main(args: Args) -> Result<ExitCode> {
    if args.list {
        for check in CHECKS {
            println!("{:12} {}", check.name, check.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let repository = Repository::read()?;
    if args.write {
        let written = documents::write(&repository)?;
        let good = show(
            "written",
            "documents whose tables are made from the sources",
            &written,
        );
        return Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut failed = 0;
    for check in choose(&args.names)? {
        let outcome = check.outcome(&repository);
        failed += usize::from(!show(check.name, check.about, &outcome));
    }
    if failed > 0 {
        println!("{failed} failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an outcome; whether it is good.
fn show(name: &str, about: &str, outcome: &Outcome) -> bool {
    let good = outcome.problems.is_empty();
    println!(
        "{name:12} {:6}  {about}",
        if good { "ok" } else { "FAILED" }
    );
    for line in outcome.notes.iter().chain(&outcome.problems) {
        println!("    {}", line.replace('\n', "\n    "));
    }
    good
}

/// The names of all checks, and what each is about.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    CHECKS.iter().map(|check| (check.name, check.about))
}

/// Runs one check; its problems are the error.
pub fn passes(name: &str) -> Result<()> {
    let repository = Repository::read()?;
    for check in choose(&[name.to_owned()])? {
        let problems = check.outcome(&repository).problems;
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    }
    Ok(())
}

impl Check {
    /// What it found; what keeps it from looking is a problem too.
    fn outcome(&self, repository: &Repository) -> Outcome {
        (self.run)(repository).unwrap_or_else(|error| Outcome {
            problems: vec![format!("{error:#}")],
            ..Outcome::default()
        })
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Check>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !CHECKS.iter().any(|check| check.name == name.as_str()))
    {
        let known: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        return trouble(
            format!("there is no check `{unknown}`"),
            format!("use one of {}", known.join(", ")),
        );
    }
    Ok(CHECKS
        .iter()
        .filter(|check| names.is_empty() || names.iter().any(|name| name == check.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_check_is_told_with_the_known_ones() {
        let error = choose(&["clipy".to_owned()]).err().unwrap().to_string();
        assert!(
            error.contains("`clipy`") && error.contains("clippy"),
            "{error}"
        );
        assert_eq!(choose(&[]).unwrap().len(), CHECKS.len());
        assert_eq!(choose(&["spdx".to_owned()]).unwrap().len(), 1);
    }

    /// The checks that need neither cargo nor the Linux source, on this very repository.
    #[test]
    fn this_repository_passes_the_text_checks() {
        let repository = Repository::read().unwrap();
        for check in CHECKS
            .iter()
            .filter(|check| ["spdx", "layers", "crates", "unsafe", "seams"].contains(&check.name))
        {
            let outcome = (check.run)(&repository).unwrap();
            assert!(
                outcome.problems.is_empty(),
                "{}: {:#?}",
                check.name,
                outcome.problems
            );
        }
    }
}
