// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every field of every record is changed once, after the old kernel has written it and before the new one reads it. The
//! host boots, no frame lands where none may, and either the change is noticed and named, or the update is done as ever.
//!
//! The records are changed from outside, in the machine's memory, with a checksum that is right all the same: a checksum
//! finds damage, and this is about lies.

mod fields;
mod tamper;

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

use self::fields::{fields, Field};
use self::tamper::Tampering;
use crate::outcome::{bad, done, plan};
use crate::steps::{nothing_lands, quiet, until_preserved};
use crate::test::{Bench, End, Test};
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene};

/// Few frames: each burns a whole ring of descriptors, should it be refused.
const RATE: u32 = 100;
/// How long the kernel's lines may take.
const CONSOLE: Duration = Duration::from_millis(300);
/// What the new kernel says of something that it does not believe.
const NAMED: [&str; 3] = [": stopped", "is blocked", "refused"];
/// One field of each kind, for those who do not run all.
const SAMPLE: [&str; 3] = [
    "FunctionSer.vendor",
    "HwptSer.domain",
    "VtdAttachmentSer.context_table",
];

pub(crate) fn tests() -> Vec<Test> {
    let all = fields();
    let mut structures: Vec<&str> = all.iter().map(|field| field.structure).collect();
    structures.dedup();
    let about = |what: &str| {
        format!("{what} is changed on its way into the new kernel: it boots, and nothing lands where it may not")
    };
    let sample = Test::new(
        "corrupt::some_fields",
        "legacy",
        about("one field after the other, of each kind of entry,"),
        |bench| run(bench, |field| SAMPLE.contains(&&*field.to_string())),
    );
    let each = structures.into_iter().map(|structure| {
        let what = format!("each field of {structure}, one after the other,");
        Test::new(
            format!("corrupt::every_field_of::{structure}"),
            "legacy",
            about(&what),
            move |bench| run(bench, |field| field.structure == structure),
        )
        .long()
    });
    std::iter::once(sample).chain(each).collect()
}

fn run(bench: &Bench, is_wanted: impl Fn(&Field) -> bool) -> Result<End> {
    for field in fields().into_iter().filter(is_wanted) {
        let name = format!("corrupt-{field}");
        let mut scene = bench.boot(Plan {
            rate: Rate::AtMost(RATE),
            ..plan(&name, "legacy", "")?
        })?;
        let played = play(&mut scene, &field);
        let strays = scene.strays()?;
        let mut outcome = scene.end(Ok(()))?;
        match played {
            Ok(what) if strays == 0 => println!("{field}: {what}"),
            Ok(_) => return bad(&outcome, &format!("{field}: {strays} frames strayed")),
            Err(why) => return bad(&outcome, &format!("{field}: {why:#}")),
        }
        done(&mut outcome, bench);
    }
    Ok(End::Passed)
}

/// Returns what became of it.
fn play(scene: &mut Scene, field: &Field) -> Result<String> {
    until_preserved(scene)?;
    let tampering = Tampering::prepare(scene, field)?;
    let before = scene.machine.console.lines().len();
    let tampering = tampering.begin(scene);
    scene.jump().context("the new kernel does not boot")?;
    tampering.end()?;
    scene.flow(CONSOLE);

    let lines = scene.machine.console.lines();
    let named = lines.iter().skip(before).find(|line| {
        line.text.contains("hitless: ") && NAMED.iter().any(|word| line.text.contains(word))
    });
    let named = named.map(|line| line.text.clone());
    let end = match (named, scene.take_back()) {
        (Some(line), Err(_)) => {
            nothing_lands(scene)?;
            line
        }
        (Some(line), Ok(())) => bail!("the device goes on though the kernel says `{line}`"),
        (None, Ok(())) => {
            scene.check("finish")?;
            "no difference".to_owned()
        }
        (None, Err(why)) => {
            ensure!(why.to_string().len() > 1, "a step fails without a word");
            format!("{why:#}")
        }
    };
    quiet(scene)?;
    Ok(end)
}
