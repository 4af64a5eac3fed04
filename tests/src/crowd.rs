// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records that grow: one update after the other with more entries than a page of them holds, in every family.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use hitless_proto::{Act, Command, Crowd, Step};
use rustix::io::Errno;

use crate::outcome::{bad, good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::machine::clock::{as_ms, Ns};
use hitless_lab::machine::profile::Profile;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};

/// The machine.
pub(crate) const CROWD: &str = "crowd";
/// Updates in a row.
const UPDATES: u32 = 2;
/// Functions that share an iommufd. Four times as many and the card are 33 devices behind 33 root ports, on 33 domains:
/// more than the 63 entries of a page in either family. The first iommufd alone has more than that, too.
const SHARE: usize = 8;
/// The sessions beside the card's: two, and that of a tenant who makes a mistake.
const SESSIONS: [&str; 3] = ["crowd-1", "crowd-2", "tenant"];
/// What the kernel says of the tenant's mistake.
const UNSEALED: &str = "refused: a file was not sealed when it was mapped";
/// What every refusal in the kernel's log has.
const REFUSED: &str = "hitless: refused:";
/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    ["legacy", "scalable-first-stage"]
        .into_iter()
        .map(|format| {
            Test::new(
                format!("growth::more_than_a_page_of_each_family::{format}"),
                CROWD,
                "two updates with 33 devices, 109 memfds and 2700 mappings; one tenant's mistake is no other's",
                move |bench| run(bench, format),
            )
        })
        .collect()
}

/// Everybody on the machine beside the two cards.
struct Everybody {
    /// Who is preserved.
    crowds: Vec<Crowd>,
    /// Who is refused: one of its memfds is not sealed.
    tenant: Crowd,
}

impl Everybody {
    fn of(profile: &Profile) -> Result<Self> {
        let mut functions = profile.plain.chunks(SHARE);
        let mut next = |name: &str, session: &str, memories, mappings, token| -> Result<Crowd> {
            let functions = functions
                .next()
                .context("the profile's crowd is too small")?;
            Ok(Crowd {
                name: name.to_owned(),
                session: session.to_owned(),
                token,
                functions: functions.to_vec(),
                memories,
                mappings,
                sealed: true,
            })
        };
        let [one, other, tenant] = SESSIONS;
        Ok(Self {
            crowds: vec![
                // More mappings than one call lists, too.
                next("large", one, 72, 300, 1000)?,
                next("small-1", other, 12, 12, 2000)?,
                next("small-2", other, 12, 12, 3000)?,
                next("small-3", one, 12, 12, 4000)?,
            ],
            tenant: Crowd {
                sealed: false,
                ..next("tenant", tenant, 70, 70, 5000)?
            },
        })
    }

    /// One order for each of their sessions.
    fn in_all(&self, scene: &mut Scene, of: impl Fn(String) -> Command) -> Result<()> {
        let sessions: BTreeSet<_> = self.crowds.iter().map(|crowd| &crowd.session).collect();
        for session in sessions {
            let order = scene.order(of(session.clone()));
            order.with_context(|| format!("of the session `{session}`"))?;
        }
        Ok(())
    }

    /// One act of all who are preserved.
    fn all(&self, scene: &mut Scene, act: Act) -> Result<()> {
        for crowd in &self.crowds {
            scene
                .order(about(crowd, act))
                .with_context(|| format!("{act:?} of the crowd `{}`", crowd.name))?;
        }
        Ok(())
    }
}

fn about(crowd: &Crowd, act: Act) -> Command {
    Command::Crowd {
        crowd: crowd.clone(),
        act,
    }
}

fn run(bench: &Bench, format: &str) -> Result<End> {
    let plan = plan("growth", CROWD, "")?;
    let profile = Profile {
        iommu: Profile::load(format)?.iommu,
        ..plan.profile
    };
    let everybody = Everybody::of(&profile)?;
    let mut scene = bench.boot(Plan { profile, ..plan })?;
    let ended = play(&mut scene, &everybody);
    let refused = scene.machine.console.lines();
    let refused = refused.iter().filter(|line| line.text.contains(REFUSED));
    let refused: Vec<_> = refused.map(|line| line.text.clone()).collect();
    let outcome = scene.end(ended)?;
    let wanted = refused.iter().filter(|line| line.contains(UNSEALED));
    let as_often = [wanted.count(), refused.len()] == [UPDATES as usize; 2];
    if outcome.verdict.is_good() && !as_often {
        return bad(
            &outcome,
            &format!(
                "the tenant should have been refused {UPDATES} times, and nobody else: {refused:?}"
            ),
        );
    }
    good(outcome, bench)
}

fn play(scene: &mut Scene, everybody: &Everybody) -> Result<()> {
    scene.receive_both()?;
    everybody.all(scene, Act::Start)?;
    scene.flow(SETTLE);
    scene.check("the start")?;
    for update in 1..=UPDATES {
        scene.order(about(&everybody.tenant, Act::Start))?;
        scene.prepare()?;
        let preserved = preserve(scene, everybody)?;
        tenant_is_refused(scene, &everybody.tenant)?;
        scene.check("preserve")?;
        let ordered = scene.machine.clock.now();
        scene.jump()?;
        let jumped = scene.machine.clock.now() - ordered;
        let retrieved = take_back(scene, everybody)?;
        println!(
            "{}: update {update}: preserve {:.0} ms, jump and boot {:.0} ms, retrieve {:.0} ms",
            scene.plan.name,
            as_ms(preserved),
            as_ms(jumped),
            as_ms(retrieved)
        );
    }
    Ok(())
}

/// The card and everybody else; returns how long it took.
fn preserve(scene: &mut Scene, everybody: &Everybody) -> Result<Ns> {
    let from = scene.machine.clock.now();
    scene.preserve()?;
    everybody.in_all(scene, preserve_all)?;
    Ok(scene.machine.clock.now() - from)
}

fn preserve_all(session: String) -> Command {
    let cards = Vec::new();
    Command::PreserveAll { session, cards }
}

/// The tenant's iommufd is refused; whatever else is preserved stays so.
fn tenant_is_refused(scene: &mut Scene, tenant: &Crowd) -> Result<()> {
    scene.refused(preserve_all(tenant.session.clone()), Errno::INVAL)?;
    ensure!(
        scene.machine.says(UNSEALED, CONSOLE),
        "the kernel's log does not say `{UNSEALED}`"
    );
    Ok(())
}

/// Everything after the jump; returns how long it took until everybody had everything.
fn take_back(scene: &mut Scene, everybody: &Everybody) -> Result<Ns> {
    let take = |step| move |session| Command::Take { session, step };
    let from = scene.machine.clock.now();
    // The card first: its ring has to be served.
    scene.retrieve()?;
    for function in everybody.crowds.iter().flat_map(|crowd| &crowd.functions) {
        let bdf = function.clone();
        scene.order(Command::BindDriver { bdf })?;
    }
    everybody.in_all(scene, take(Step::Retrieve))?;
    everybody.in_all(scene, take(Step::Bind))?;
    let retrieved = scene.machine.clock.now() - from;
    scene.check("retrieve")?;
    scene.fill_memory()?;
    scene.compact()?;
    everybody.in_all(scene, take(Step::Rebuild))?;
    scene.rebuild()?;
    everybody.in_all(scene, take(Step::Swap))?;
    scene.swap()?;
    everybody.all(scene, Act::Adopt)?;
    everybody.in_all(scene, |session| Command::Finish { session })?;
    scene.finish()?;
    scene.flow(SETTLE);
    scene.check("finish")?;
    Ok(retrieved)
}
