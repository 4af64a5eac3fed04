// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shows that each check finds what it is for.

use std::collections::BTreeMap;

use super::*;

/// What is planted, and what has to be found: see the head of `planted.toml`.
#[derive(serde::Deserialize)]
struct Plant {
    check: String,
    files: BTreeMap<String, String>,
    found: Vec<String>,
}

fn repeated(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(" times: ") {
        Some((count, line)) => format!("{line}\n").repeat(count.parse().unwrap()),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn what_is_planted_is_found() {
    let mut plants: BTreeMap<String, Vec<Plant>> =
        toml::from_str(include_str!("planted.toml")).unwrap();
    let mut repository = Repository::read().unwrap();
    let mut before = BTreeMap::new();
    for plant in plants.remove("plant").unwrap() {
        let check = choose(std::slice::from_ref(&plant.check)).unwrap()[0];
        let before = before
            .entry(check.name)
            .or_insert_with(|| check.outcome(&repository).problems);
        let saved = repository.files.clone();
        for (path, text) in plant.files {
            match text.as_str() {
                "removed" => repository.files.remove(&path),
                text => repository.files.insert(path, repeated(text)),
            };
        }
        let mut found = check.outcome(&repository).problems;
        repository.files = saved;
        found.retain(|problem| !before.contains(problem));
        assert_eq!(found.len(), plant.found.len(), "{found:#?}");
        for words in plant.found {
            let said = found
                .iter()
                .any(|problem| problem.contains(words.trim_start()));
            assert!(said, "{words}: {found:#?}");
        }
    }
}

#[test]
fn a_failing_tool_and_an_unknown_check_are_told() {
    let repository = Repository::read().unwrap();
    for (arguments, problems) in [("--version", 0), ("no-such-verb", 1)] {
        let mut outcome = Outcome::default();
        tools::cargo(&repository, &mut outcome, arguments, "do").unwrap();
        assert_eq!(outcome.problems.len(), problems);
    }
    let error = choose(&["clipy".to_owned()]).err().unwrap().to_string();
    let said = error.contains("`clipy`") && error.contains("clippy");
    assert!(said, "{error}");
}
