// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists of actions on a machine under traffic, with one check after each: frames land, all of them and in order.

use std::time::Duration;

use anyhow::{ensure, Result};
use hitless_proto::{Command, Step, What};
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::evidence::phases::SWAP;
use hitless_lab::evidence::verdict::Kind;
use hitless_lab::play::scene::{Plan, Scene, CARDS, SETTLE};
use hitless_lab::play::update::{FILES, SESSION};

/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);
/// How long frames flow after a step that has done nothing.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// One thing to do.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Words on the next kernel's command line.
    NextKernel(&'static str),
    /// Mark the HWPT and load the next kernel.
    Prepare,
    /// Preserve everything.
    Preserve,
    /// Preserve the first so many files of the session only.
    PreserveSome(usize),
    /// Close the session: everything is unpreserved.
    Abort,
    /// Jump.
    Jump,
    /// Overwrite free memory.
    FillMemory,
    /// Take everything out of the session and bind the device.
    Retrieve,
    /// Force compaction; no page moves.
    Compact,
    /// Build the new HWPT; finish is refused.
    Rebuild,
    /// Swap.
    Swap,
    /// Finish.
    Finish,
    /// Opening the device by its name is refused.
    OpenRefused,
    /// Preserving this file is refused.
    PreserveRefused(What),
    /// Punch a hole into the memory: its iommufd is refused from then on, for that reason.
    HoleRefused,
    /// Finish is refused.
    FinishRefused,
    /// A jump is refused with this error number.
    JumpRefused(Errno),
    /// Load an image that gets nothing of what is handed over.
    LoadWithoutHandover,
    /// Give the HWPT a token, for who preserves file by file.
    Mark,
    /// Load the next kernel.
    Load,
    /// Set an interrupt of the device up, or take it down.
    Interrupts(bool),
    /// Take the session and the memory in it, and nothing else.
    RetrieveMemory,
    /// The device's file is asked for before its driver is bound; the session is closed again.
    RetrieveTooEarly,
    /// The swap is refused.
    SwapRefused,
    /// Swap; back is refused.
    SwapOneWay,
    /// Swaps on the old kernel, which needs no jump for that.
    SwapHere,
    /// Memory and iommufd are preserved, the device is refused; the session is closed again.
    DeviceRefused,
}

/// What follows the jump when all goes well.
const TAKE_BACK: [Action; 5] = [
    Action::Retrieve,
    Action::Compact,
    Action::Rebuild,
    Action::Swap,
    Action::Finish,
];

impl Action {
    fn play(self, scene: &mut Scene) -> Result<()> {
        let card = scene.first.number;
        match self {
            Self::NextKernel(words) => words.clone_into(&mut scene.plan.words),
            Self::Prepare => scene.prepare()?,
            Self::Mark => scene.mark()?,
            Self::Preserve => scene.preserve()?,
            Self::PreserveSome(count) => preserve_some(scene, count)?,
            Self::Abort => close(scene, SESSION)?,
            Self::Jump => scene.jump()?,
            Self::FillMemory => scene.fill_memory()?,
            Self::Retrieve => scene.retrieve()?,
            Self::Compact => scene.compact()?,
            Self::Rebuild => scene.rebuild()?,
            Self::Swap => scene.swap()?,
            Self::Finish => scene.finish()?,
            Self::OpenRefused => open_refused(scene)?,
            Self::PreserveRefused(what) => preserve_refused(scene, what)?,
            Self::HoleRefused => hole_refused(scene)?,
            Self::FinishRefused => {
                let session = SESSION.to_owned();
                scene.refused(Command::Finish { session }, Errno::BUSY)?;
            }
            Self::JumpRefused(errno) => scene.refused(Command::Kexec, errno)?,
            Self::LoadWithoutHandover => {
                scene.order(Command::LoadWithoutHandover)?;
            }
            Self::Load => scene.load()?,
            Self::Interrupts(on) => {
                scene.order(Command::Interrupts { card, on })?;
            }
            Self::RetrieveMemory => {
                open(scene)?;
                scene.order(retrieve(card, FILES[0]))?;
            }
            Self::RetrieveTooEarly => {
                open(scene)?;
                scene.refused(retrieve(card, FILES[2]), Errno::AGAIN)?;
                says(scene, "refused: vfio-pci is not bound to the device yet")?;
                close(scene, SESSION)?;
                scene.refused(Scene::to_take(Step::Retrieve), Errno::AGAIN)?;
            }
            Self::SwapRefused => {
                let from = scene.machine.clock.now();
                scene.refused(Command::Swap { card }, Errno::INVAL)?;
                scene.flow(AFTERWARDS);
                scene.step(SWAP, from);
            }
            Self::SwapOneWay => {
                let from = scene.machine.clock.now();
                scene.order(Command::Swap { card })?;
                scene.refused(Command::SwapBack { card }, Errno::INVAL)?;
                scene.flow(AFTERWARDS);
                scene.order(Command::DestroyOld { card })?;
                scene.step(SWAP, from);
            }
            Self::DeviceRefused => {
                preserve_some(scene, 2)?;
                scene.refused(preserve(SESSION, card, FILES[2]), Errno::OPNOTSUPP)?;
                close(scene, SESSION)?;
            }
            Self::SwapHere => {
                scene.swaps(20, 2_000)?;
            }
        }
        Ok(())
    }
}

fn preserve_some(scene: &mut Scene, count: usize) -> Result<()> {
    create(scene, SESSION)?;
    for (what, token) in FILES.into_iter().take(count) {
        scene.preserve_one(what, token)?;
    }
    Ok(())
}

fn open_refused(scene: &mut Scene) -> Result<()> {
    let bdf = scene.first.bdf.clone();
    scene.order(Command::BindDriver { bdf: bdf.clone() })?;
    scene.refused(Command::OpenDevice { bdf }, Errno::BUSY)
}

fn preserve_refused(scene: &mut Scene, what: What) -> Result<()> {
    let session = "other";
    create(scene, session)?;
    let card = scene.first.number;
    scene.refused(preserve(session, card, (what, 9)), Errno::INVAL)?;
    close(scene, session)
}

fn hole_refused(scene: &mut Scene) -> Result<()> {
    let (session, card) = ("hole", scene.first.number);
    scene.order(Command::PunchHole { card })?;
    create(scene, session)?;
    scene.order(preserve(session, card, (What::Memory, 1)))?;
    scene.refused(preserve(session, card, (What::Iommufd, 2)), Errno::INVAL)?;
    says(scene, "refused: memory was taken out of a file")?;
    close(scene, session)
}

fn create(scene: &mut Scene, session: &str) -> Result<()> {
    let session = session.to_owned();
    scene.order(Command::SessionCreate { session }).map(|_| ())
}

/// Takes the session over after a jump.
fn open(scene: &mut Scene) -> Result<()> {
    let session = SESSION.to_owned();
    scene
        .order(Command::SessionRetrieve { session })
        .map(|_| ())
}

fn close(scene: &mut Scene, session: &str) -> Result<()> {
    let session = session.to_owned();
    scene.order(Command::SessionClose { session }).map(|_| ())
}

fn preserve(session: &str, card: u8, (what, token): (What, u64)) -> Command {
    Command::Preserve {
        session: session.to_owned(),
        card,
        what,
        token,
    }
}

fn retrieve(card: u8, (what, token): (What, u64)) -> Command {
    Command::Retrieve {
        session: SESSION.to_owned(),
        card,
        what,
        token,
    }
}

/// The kernel says something on its console, now or a moment later.
fn says(scene: &Scene, words: &str) -> Result<()> {
    ensure!(
        scene.machine.says(words, CONSOLE),
        "the kernel's log does not say `{words}`"
    );
    Ok(())
}

/// A list of actions that is a test.
struct List {
    name: &'static str,
    about: &'static str,
    /// The machine, and its cards: the one that is preserved and the other one.
    profile: &'static str,
    cards: [&'static str; 2],
    /// Words on every kernel's command line.
    words: &'static str,
    actions: Vec<Action>,
}

fn list(name: &'static str, about: &'static str, actions: Vec<Action>) -> List {
    List {
        name,
        about,
        profile: "legacy",
        cards: CARDS,
        words: "",
        actions,
    }
}

impl List {
    /// On another machine, with these cards.
    fn on(self, profile: &'static str, cards: [&'static str; 2]) -> Self {
        Self {
            profile,
            cards,
            ..self
        }
    }

    /// With words on every kernel's command line.
    fn with(self, words: &'static str) -> Self {
        Self { words, ..self }
    }
}

pub(crate) fn tests() -> Vec<Test> {
    lists()
        .into_iter()
        .map(|list| {
            Test::new(
                format!("lifecycle::{}", list.name),
                list.profile,
                list.about,
                move |bench| run(bench, &list),
            )
        })
        .collect()
}

fn lists() -> Vec<List> {
    use Action as Do;
    let after_jump = |before: &[Action]| -> Vec<Action> {
        before
            .iter()
            .copied()
            .chain([Do::Jump])
            .chain(TAKE_BACK)
            .collect()
    };
    vec![
        list(
            "abort_after_each_preserve",
            "a session closed after any step leaves the old kernel as it was; a later try works",
            after_jump(&[
                Do::Prepare,
                Do::Mark,
                Do::PreserveSome(1),
                Do::Abort,
                Do::PreserveSome(2),
                Do::Abort,
                Do::PreserveSome(3),
                Do::Abort,
                Do::Preserve,
            ]),
        ),
        list(
            "preserve_in_the_wrong_order_is_refused",
            "an iommufd without its memory and a device without its iommufd are refused",
            after_jump(&[
                Do::Prepare,
                Do::Mark,
                Do::PreserveRefused(What::Iommufd),
                Do::PreserveRefused(What::Device),
                Do::Preserve,
            ]),
        ),
        list(
            "a_jump_without_a_kernel_is_refused",
            "a refused jump leaves the old kernel running and the frames landing",
            vec![Do::JumpRefused(Errno::INVAL), Do::SwapHere],
        ),
        list(
            // Its twin are all the others, which punch no hole.
            "a_hole_in_the_memory_is_refused",
            "tables that map what is not the file's any more are not preserved",
            vec![Do::Mark, Do::HoleRefused, Do::SwapHere],
        ),
        list(
            "what_comes_too_early_is_refused",
            "after the jump only the session opens the device, and finish and the next jump wait for the swap",
            vec![
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::OpenRefused,
                Do::Load,
                Do::JumpRefused(Errno::BUSY),
                Do::Retrieve,
                Do::FinishRefused,
                Do::Rebuild,
                Do::FinishRefused,
                Do::JumpRefused(Errno::BUSY),
                Do::Swap,
                Do::Finish,
            ],
        ),
        list(
            // Its twin is every other jump, which is not refused.
            "a_freeze_that_fails_is_rolled_back",
            "a device that changed since preserve calls the jump off; put right, the same session jumps",
            after_jump(&[
                Do::Prepare,
                Do::Preserve,
                Do::Interrupts(true),
                Do::JumpRefused(Errno::BUSY),
                Do::JumpRefused(Errno::BUSY),
                Do::Interrupts(false),
            ]),
        ),
        list(
            "a_jump_without_handover_is_refused",
            "an image from kexec_load, to which everything is free memory, is not jumped into",
            after_jump(&[
                Do::Prepare,
                Do::Preserve,
                Do::LoadWithoutHandover,
                Do::JumpRefused(Errno::INVAL),
                Do::Load,
            ]),
        ),
        list(
            "a_retrieve_that_comes_too_early_can_be_tried_again",
            "a device file asked for before its driver is bound is refused, and given later",
            {
                let mut actions = after_jump(&[Do::Prepare, Do::Preserve]);
                actions.insert(3, Do::RetrieveTooEarly);
                actions
            },
        ),
        list(
            // Nobody can take the device back here. It goes on, and what it uses is given to nobody.
            "a_kernel_that_does_not_use_the_iommu_lets_nothing_go",
            "with intel_iommu=off in the next kernel the device goes on, its memory stays pinned and finish is refused",
            vec![
                Do::NextKernel("intel_iommu=off hitless.jump=anyway"),
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::RetrieveMemory,
                Do::Compact,
                Do::FillMemory,
                Do::FinishRefused,
            ],
        ),
        list(
            "a_restored_hwpt_can_only_be_left",
            "attaching back to what the swap replaced is refused and changes nothing",
            vec![
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::Retrieve,
                Do::Rebuild,
                Do::SwapOneWay,
                Do::SwapHere,
                Do::Finish,
            ],
        ),
        list(
            "a_refused_swap_changes_nothing",
            "a swap that the planner refuses leaves the device where it was, as often as it is tried",
            vec![
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::Retrieve,
                Do::Rebuild,
                Do::SwapRefused,
                Do::FinishRefused,
                Do::SwapRefused,
                Do::FillMemory,
            ],
        )
        .with("hitless.break=plan"),
        list(
            "a_card_that_shares_its_group_is_refused",
            "a device behind a switch whose ports do not isolate is not preserved, and goes on",
            vec![Do::Mark, Do::DeviceRefused, Do::SwapHere],
        )
        .on("legacy-switch", ["second", "first"]),
        list(
            "memory_filled_at_every_step",
            "what is preserved is given to nobody else at any step before finish",
            vec![
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::FillMemory,
                Do::Retrieve,
                Do::Compact,
                Do::FillMemory,
                Do::Rebuild,
                Do::FillMemory,
                Do::Swap,
                Do::FillMemory,
                Do::Finish,
            ],
        ),
    ]
}

fn run(bench: &Bench, list: &List) -> Result<End> {
    let mut scene = bench.boot(Plan {
        cards: list.cards,
        ..plan(list.name, list.profile, list.words)?
    })?;
    let ended = play(&mut scene, &list.actions);
    let mut outcome = scene.end(ended)?;
    let does = |wanted: fn(&Action) -> bool| list.actions.iter().any(wanted);
    let jumps = does(|action| matches!(action, Action::Jump));
    let swaps = does(|action| {
        matches!(
            action,
            Action::Swap | Action::SwapOneWay | Action::SwapRefused
        )
    });
    outcome.verdict.forgive(|kind| match kind {
        Kind::SilentJump | Kind::NoUpdate => !jumps,
        Kind::SilentSwap => !swaps,
        _ => false,
    });
    good(outcome, bench)
}

fn play(scene: &mut Scene, actions: &[Action]) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.check("the start")?;
    for action in actions {
        action.play(scene)?;
        scene.check(&format!("{action:?}"))?;
    }
    Ok(())
}
