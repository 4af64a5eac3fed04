// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Update after update on one machine: none leaves anything behind, and none begins before the last one is finished.

use anyhow::{ensure, Context, Result};
use hitless_proto::{Command, What};
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN};

/// Updates in a row, unless the variable says how many.
const UPDATES: u32 = 5;
const VARIABLE: &str = "HITLESS_UPDATES";
/// Few frames: what is looked for is what they leave.
const RATE: u32 = 200;
/// The session that begins too early, and the one that is forgotten.
const EARLY: &str = "early";
const FORGOTTEN: &str = "forgotten";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "repetition::nothing_is_left_behind",
            "legacy",
            "several updates in a row (HITLESS_UPDATES=20 for more), and no count of memory, pins or domain ids grows",
            updates,
        ),
        Test::new(
            "twin::repetition",
            "legacy",
            "a HWPT and a memfd that are held, and a session that nobody retrieves, show in the counts",
            leaks,
        ),
        Test::new(
            "repetition::a_second_update_waits_for_the_first",
            "legacy",
            "before finish none of the files can be preserved again (EBUSY), and the first update is finished all the same",
            too_early,
        ),
    ]
}

/// Something of which there must not be more after an update.
#[derive(Debug)]
pub(crate) struct Count {
    name: &'static str,
    value: i64,
    /// So much more is noise.
    slack: i64,
}

/// What the kernel counts in kB, and how much of it comes and goes by itself: what is cached for each processor, and which
/// slabs are filled how far.
const MEMINFO: [(&str, i64); 9] = [
    ("SecPageTables", 0),
    ("Unevictable", 0),
    ("Mlocked", 0),
    ("Shmem", 0),
    ("PageTables", 64),
    ("KernelStack", 128),
    ("AnonPages", 512),
    ("Slab", 512),
    ("Percpu", 0),
];
/// What kernels that were started otherwise differ by: the first one of a machine comes from its firmware.
const UNMANAGED_KIB: i64 = 64;
/// What a unit has given out.
const DOMAINS: &str = "/sys/class/iommu/dmar0/intel-iommu/domains_used";

/// Counts when everything that could be dropped is dropped.
pub(crate) fn counts(scene: &mut Scene) -> Result<Vec<Count>> {
    for (path, text) in [
        ("/proc/sys/vm/drop_caches", "3"),
        ("/proc/sys/vm/compact_memory", "1"),
        ("/proc/sys/vm/stat_refresh", "1"),
    ] {
        let (path, text) = (path.to_owned(), text.to_owned());
        scene.order(Command::WriteFile { path, text })?;
    }
    let meminfo = scene.read("/proc/meminfo")?;
    let vmstat = scene.read("/proc/vmstat")?;
    let domains = scene.read(DOMAINS)?;
    let mib = i64::try_from(scene.plan.profile.machine.memory_mib)?;
    let unmanaged = (mib << 10) - number(&meminfo, "MemTotal")?;
    let mut counts = vec![
        Count {
            name: "memory that is not managed",
            value: unmanaged,
            slack: UNMANAGED_KIB,
        },
        Count {
            name: "pages of IOMMUs",
            value: number(&vmstat, "nr_iommu_pages")?,
            slack: 0,
        },
        Count {
            name: "pins",
            value: number(&vmstat, "nr_foll_pin_acquired")?
                - number(&vmstat, "nr_foll_pin_released")?,
            slack: 0,
        },
        Count {
            name: "domain ids",
            value: domains.trim().parse().context(DOMAINS)?,
            slack: 0,
        },
    ];
    for (name, slack) in MEMINFO {
        let value = number(&meminfo, name)?;
        counts.push(Count { name, value, slack });
    }
    Ok(counts)
}

/// A number by its name, from a file with one of each in a line.
fn number(text: &str, name: &str) -> Result<i64> {
    let mut words = text.lines().map(str::split_whitespace);
    let value = words.find_map(|mut words| {
        let is_it = words.next()?.trim_end_matches(':') == name;
        is_it.then(|| words.next()?.parse().ok())?
    });
    value.with_context(|| format!("the kernel does not count {name}"))
}

/// Of what there is more than noise explains.
pub(crate) fn grown(before: &[Count], now: &[Count]) -> Vec<String> {
    let pairs = before.iter().zip(now);
    let grown = pairs.filter(|(before, now)| now.value > before.value + before.slack);
    grown
        .map(|(before, now)| format!("{}: {} instead of {}", now.name, now.value, before.value))
        .collect()
}

/// A machine in which one card receives, as every update leaves it: with a second HWPT to swap to.
fn boot(bench: &Bench, name: &str) -> Result<Scene> {
    bench.boot(Plan {
        rate: Rate::AtMost(RATE),
        ..plan(name, "legacy", "")?
    })
}

fn receive(scene: &mut Scene) -> Result<()> {
    scene.receive_alone()?;
    scene.flow(SETTLE);
    scene.swaps(2, 1_000)?;
    Ok(())
}

fn updates(bench: &Bench) -> Result<End> {
    let wanted = std::env::var(VARIABLE).ok();
    let wanted = wanted.map_or(Ok(UPDATES), |text| text.parse());
    let wanted = wanted.with_context(|| format!("{VARIABLE} is not a number of updates"))?;
    let mut scene = boot(bench, "repetition")?;
    let played = play_updates(&mut scene, wanted);
    good(scene.end(played)?, bench)
}

fn play_updates(scene: &mut Scene, wanted: u32) -> Result<()> {
    receive(scene)?;
    let first = counts(scene)?;
    note(scene, 0, &first);
    for update in 1..=wanted {
        scene.update()?;
        scene.check(&format!("update {update}"))?;
        let now = counts(scene)?;
        note(scene, update, &now);
        let grown = grown(&first, &now);
        ensure!(
            grown.is_empty(),
            "after update {update} there is more of this than before the first one: {}",
            grown.join("; ")
        );
    }
    scene.flow_round_the_ring()
}

/// For whoever has to find out since when there is more.
fn note(scene: &Scene, update: u32, counts: &[Count]) {
    let lines = counts
        .iter()
        .map(|count| format!("{}: {}\n", count.name, count.value));
    let text: String = lines.collect();
    let name = format!("counts-{update}");
    scene.machine.directory.write(&name, &text);
}

fn leaks(bench: &Bench) -> Result<End> {
    let mut scene = boot(bench, "twin-repetition")?;
    let played = play_leaks(&mut scene);
    good(scene.end(played)?, bench)
}

fn play_leaks(scene: &mut Scene) -> Result<()> {
    receive(scene)?;
    let first = counts(scene)?;
    note(scene, 0, &first);

    scene.order(Command::FillMemory { keep_mib: 256 })?;
    noticed(scene, &first, &["Shmem"])?;
    scene.order(Command::FreeMemory)?;
    let now = counts(scene)?;
    let more = grown(&first, &now);
    ensure!(more.is_empty(), "given back, it still counts: {more:?}");

    // The one that was there to be swapped to is forgotten.
    let card = scene.first.number;
    scene.order(Command::Rebuild { card })?;
    noticed(scene, &first, &["pages of IOMMUs", "SecPageTables"])?;

    // Memory of a card that nobody takes back.
    let second = scene.second.clone();
    scene.receive_again(&second)?;
    let session = FORGOTTEN.to_owned();
    scene.order(Command::SessionCreate { session })?;
    scene.order(preserve(FORGOTTEN, second.number, FILES[0]))?;
    scene.update()?;
    noticed(scene, &first, &["memory that is not managed"])
}

/// The counts tell all of these.
fn noticed(scene: &mut Scene, first: &[Count], names: &[&str]) -> Result<()> {
    let now = counts(scene)?;
    let grown = grown(first, &now);
    for name in names {
        ensure!(
            grown.iter().any(|words| words.starts_with(name)),
            "what was leaked is not among `{name}`, but here: {grown:?}"
        );
    }
    Ok(())
}

fn too_early(bench: &Bench) -> Result<End> {
    let mut scene = boot(bench, "early")?;
    let played = play_too_early(&mut scene);
    good(scene.end(played)?, bench)
}

fn play_too_early(scene: &mut Scene) -> Result<()> {
    receive(scene)?;
    scene.prepare()?;
    scene.preserve()?;
    scene.jump()?;
    scene.retrieve()?;
    early(scene)?;
    let (card, token) = (scene.first.number, HWPT_TOKEN);
    scene.refused(Command::Mark { card, token }, Errno::NOENT)?;
    scene.rebuild()?;
    early(scene)?;
    scene.swap()?;
    early(scene)?;
    scene.finish()?;
    scene.check("finish")?;
    // And then it can begin.
    scene.update()?;
    scene.check("the second update")
}

/// What belongs to the update that goes on is refused to another one.
fn early(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let session = EARLY.to_owned();
    scene.order(Command::SessionCreate { session })?;
    for file in FILES {
        scene.refused(preserve(EARLY, card, file), Errno::BUSY)?;
    }
    let session = EARLY.to_owned();
    scene.order(Command::SessionClose { session })?;
    scene.check("what came too early")
}

fn preserve(session: &str, card: u8, (what, token): (What, u64)) -> Command {
    Command::Preserve {
        session: session.to_owned(),
        card,
        what,
        token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_names() {
        let text = "MemTotal:   752000 kB\nnr_iommu_pages 35\nnr_iommu_pages_x 36\n";
        assert_eq!(number(text, "MemTotal").ok(), Some(752_000));
        assert_eq!(number(text, "nr_iommu_pages").ok(), Some(35));
        assert!(number(text, "nr_iommu").is_err());
    }

    #[test]
    fn only_what_is_more_than_noise_has_grown() {
        let count = |value| {
            [Count {
                name: "pins",
                value,
                slack: 2,
            }]
        };
        assert!(grown(&count(5), &count(7)).is_empty());
        assert!(grown(&count(5), &count(0)).is_empty());
        assert_eq!(grown(&count(5), &count(8)), ["pins: 8 instead of 5"]);
    }
}
