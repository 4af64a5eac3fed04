// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Results of `cargo lab demo` that can not be written.

use std::fs;

use anyhow::{ensure, Context, Result};

use super::call::Call;
use super::world::World;
use crate::paths;
use crate::suite::Bench;

pub(super) fn figures() -> Result<()> {
    let world = World::new()?;
    let nowhere = world.path("no/such/folder/x.json").display().to_string();
    let folder = world.path("cache").display().to_string();
    for path in [&nowhere, &folder] {
        world.lab(&["demo", "--json", path]).run()?.fails(&[
            &format!("the figures can not be written to {path}: "),
            "what to do: give --json a file in a folder that is there",
        ])?;
    }
    Ok(())
}

pub(super) fn picture(bench: &Bench) -> Result<()> {
    let world = World::new()?;
    // With this name there can be a profile, but no picture: it has a longer ending.
    let profile = world.path(&format!("{}.toml", "x".repeat(250)));
    fs::copy(
        paths::repository()?.join("lab/profiles/legacy.toml"),
        &profile,
    )?;
    let json = world.path("x.json");
    let arguments = ["demo", "--updates", "1", "--seconds", "0", "--json"];
    let mut arguments = arguments.map(str::to_owned).to_vec();
    arguments.push(json.display().to_string());
    arguments.push("--profile".to_owned());
    arguments.push(profile.display().to_string());
    if bench.keep {
        arguments.push("--keep".to_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = Call::new(&arguments).run()?;
    ended.fails(&["the picture can not be written to "])?;
    ensure!(
        ended.closing().starts_with("OK: "),
        "the last line is `{}`",
        ended.closing()
    );
    let text = fs::read_to_string(&json).context("the figures are not there")?;
    let figures: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(figures["updates"] == 1, "the figures are {text}");
    Ok(())
}
