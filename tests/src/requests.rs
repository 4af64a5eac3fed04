// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device whose driver is hostile writes to the addresses at which interrupts are requested, which tables of DMA do not
//! see. All through the jump each such write is refused.
//!
//! What QEMU cannot show: it lets requests in the compatibility format pass, which hardware blocks. So their destination
//! is one that no processor has.

use std::fs::File;
use std::io::BufReader;

use anyhow::{ensure, Result};
use hitless_proto::Command;

use crate::outcome::{bad, done, plan};
use crate::steps::until_preserved;
use crate::test::{unless_first, Bench, End, Test};
use crate::twins::harm_at;
use hitless_lab::evidence::event::Harm;
use hitless_lab::evidence::requests::{self, Request};
use hitless_lab::machine::clock::{Ns, MS};
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::machine::qemu::TRACE;
use hitless_lab::play::end::Outcome;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};

/// Few frames: each of them is some dozens of requests.
const RATE: u32 = 200;
/// Where a frame goes (VT-d specification 5.1.2): every other 16 bytes are a request for an entry of [`ENTRY`] and more.
const ADDRESS: u64 = 0xfeef_0000;
/// The first entry that is asked for. Nobody has so many interrupts.
const ENTRY: u32 = 0x7800;
/// The longest time between two requests is that between some frames, on a host that is slow now and then.
const GAP: Ns = 1_000 * MS;

pub(crate) fn tests() -> Vec<Test> {
    let refused = TABLE_FORMATS.into_iter().map(|profile| {
        let test = Test::new(
            format!("isolation::interrupt_requests::{profile}"),
            profile,
            "frames aimed at 0xfeef0000 all through the jump ask for interrupts, and each request is refused",
            move |bench| run(bench, profile, ""),
        );
        unless_first(profile, test)
    });
    let twin = Test::new(
        "twin::interrupt_requests",
        "legacy",
        "left out: while remapping is off, requests are not looked at",
        |bench| run(bench, "legacy", "hitless.break=irq_table"),
    );
    refused.chain([twin]).collect()
}

fn run(bench: &Bench, profile: &str, left_out: &str) -> Result<End> {
    let mut scene = bench.boot(Plan {
        rate: Rate::AtMost(RATE),
        ..plan("interrupt-requests", profile, left_out)?
    })?;
    let clock = scene.machine.clock;
    let played = play(&mut scene);
    let gap = u64::try_from(
        scene
            .machine
            .pace
            .patience(std::time::Duration::from_nanos(GAP))
            .as_nanos(),
    )?;
    let mut outcome = scene.end(Ok(()))?;
    let trace = BufReader::new(File::open(outcome.directory.path().join(TRACE))?);
    let requests = requests::read(trace, clock)?;
    let judged = played.and_then(|aimed| all_refused(&requests, aimed, &outcome, gap));
    let off = harm_at(&outcome, Harm::RemappingOff).is_some();
    match (judged, left_out.is_empty()) {
        (Err(why), true) => return bad(&outcome, &format!("{why:#}")),
        (_, expected) if off == expected => {
            return bad(
                &outcome,
                &format!("interrupt remapping was switched off: {off}"),
            );
        }
        _ => {}
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

/// Returns when the frames were aimed.
fn play(scene: &mut Scene) -> Result<Ns> {
    until_preserved(scene)?;
    scene.watch_requests()?;
    let card = scene.first.number;
    let address = ADDRESS;
    scene.order(Command::AimFrames { card, address })?;
    let aimed = scene.machine.clock.now();
    scene.flow(SETTLE);
    scene.jump()?;
    scene.flow(SETTLE);
    Ok(aimed)
}

/// From `aimed` on until long after the jump there are requests, and none of them is granted.
fn all_refused(requests: &[Request], aimed: Ns, outcome: &Outcome, gap: Ns) -> Result<()> {
    let ours = requests.iter().filter(|request| request.entry >= ENTRY);
    ensure!(
        ours.clone().all(|request| !request.granted),
        "a request of the device was granted"
    );
    let jump = &outcome.evidence.jumps;
    let hello = jump.first().map(|jump| jump.hello);
    let hello = hello.ok_or_else(|| anyhow::anyhow!("the jump was not reached"))?;
    let mut last = aimed;
    for request in ours.filter(|request| request.at > aimed) {
        ensure!(
            request.at - last < gap,
            "for {} ms no request is seen",
            (request.at - last) / MS
        );
        last = request.at;
    }
    ensure!(last > hello, "no request is seen in the new kernel");
    Ok(())
}
