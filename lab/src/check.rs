// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab check`: what reviewers would otherwise have to look for.
//!
//! | module | what |
//! |---|---|
//! | [`repository`] | the files of the repository, and what a check finds |
//! | [`rust`] | Rust files as words, so that comments and strings are never mistaken for code |
//! | [`circles`] | which file uses which, and that none does so in a circle |
//! | [`borders`] | the border between glue and C, and which crate depends on which |
//! | [`unsafety`] | where unsafe code may be |
//! | [`c`], [`seams`] | how much C there is of ours, and how much lab |
//! | [`hardware`] | where the words of one kind of IOMMU may stand |
//! | [`documents`] | documents whose tables are made from the sources |
//! | [`text`] | licences, left-overs |
//! | [`tools`] | rustfmt, clippy, do the patches apply, does checkpatch accept them? |

use std::process::ExitCode;

use anyhow::Result;

use crate::trouble::trouble;
use repository::{Outcome, Repository};

mod borders;
mod c;
mod circles;
mod documents;
mod hardware;
#[cfg(test)]
mod planted;
mod repository;
mod rust;
mod seams;
mod text;
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
    run: fn(&Repository, &mut Outcome) -> Result<()>,
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
        run: borders::layers,
    },
    Check {
        name: "circles",
        about: "no files of a crate use each other in a circle, and glue uses no higher floor",
        run: circles::run,
    },
    Check {
        name: "crates",
        about: "crates depend on what they may",
        run: borders::crates,
    },
    Check {
        name: "unsafe",
        about: "unsafe code is where it may be",
        run: unsafety::run,
    },
    Check {
        name: "seams",
        about: "there is little C, in existing files, seam files and one function, and little lab",
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
        run: tools::patches,
    },
    Check {
        name: "checkpatch",
        about: "checkpatch.pl finds no error in patches and new C files",
        run: tools::checkpatch,
    },
];

/// Runs `cargo lab check`.
pub fn main(args: Args) -> Result<ExitCode> {
    if args.list {
        for (name, about) in names() {
            println!("{name:12} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let repository = Repository::read()?;
    let write = [Check {
        name: "written",
        about: "documents whose tables are made from the sources",
        run: documents::write,
    }];
    let checks = match args.write {
        true => write.iter().collect(),
        false => choose(&args.names)?,
    };
    let mut failed = 0;
    for check in checks {
        let outcome = check.outcome(&repository);
        let good = outcome.problems.is_empty();
        let word = if good { "ok" } else { "FAILED" };
        println!("{:12} {word:6}  {}", check.name, check.about);
        for line in outcome.notes.iter().chain(&outcome.problems) {
            println!("    {}", line.replace('\n', "\n    "));
        }
        failed += usize::from(!good);
    }
    if failed > 0 {
        println!("{failed} failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
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
        let mut outcome = Outcome::default();
        if let Err(error) = (self.run)(repository, &mut outcome) {
            outcome.problems.push(format!("{error:#}"));
        }
        outcome
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Check>> {
    let known: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return trouble(
            format!("there is no check `{unknown}`"),
            format!("use one of {}", known.join(", ")),
        );
    }
    let all = CHECKS.iter();
    let chosen = all.filter(|check| names.is_empty() || names.contains(&check.name.to_owned()));
    Ok(chosen.collect())
}
