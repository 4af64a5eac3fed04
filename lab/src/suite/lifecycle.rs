// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists of actions on a machine under traffic, with one check after each: frames land, all of them and in order.

use anyhow::{ensure, Result};
use hitless_proto::{Command, What};

use crate::run::qemu::SLOTS;
use crate::run::scene::{Scene, SETTLE};
use crate::run::update::{CARD, FILES, SESSION};
use crate::suite::updates::{good, plan};
use crate::suite::{Bench, End, Test};

/// "Invalid argument".
const EINVAL: i32 = 22;

/// One thing to do.
#[derive(Clone, Copy, Debug)]
enum Action {
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
    /// A jump is refused when no kernel is loaded.
    JumpRefused,
    /// Swaps on the old kernel, which needs no jump for that.
    SwapHere,
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
        match self {
            Self::Prepare => scene.prepare(),
            Self::Preserve => scene.preserve(),
            Self::PreserveSome(count) => {
                scene.order(Command::SessionCreate {
                    session: SESSION.to_owned(),
                })?;
                for (what, token) in FILES.into_iter().take(count) {
                    scene.preserve_one(what, token)?;
                }
                Ok(())
            }
            Self::Abort => {
                scene.order(Command::SessionClose {
                    session: SESSION.to_owned(),
                })?;
                Ok(())
            }
            Self::Jump => scene.jump(),
            Self::FillMemory => scene.fill_memory(),
            Self::Retrieve => scene.retrieve(),
            Self::Compact => scene.compact(),
            Self::Rebuild => scene.rebuild(),
            Self::Swap => scene.swap(),
            Self::Finish => scene.finish(),
            Self::OpenRefused => {
                scene.order(Command::BindDriver {
                    bdf: SLOTS[0].bdf.to_owned(),
                })?;
                scene.refused(
                    Command::OpenDevice {
                        bdf: SLOTS[0].bdf.to_owned(),
                    },
                    &[],
                )
            }
            Self::PreserveRefused(what) => {
                scene.order(Command::SessionCreate {
                    session: "other".to_owned(),
                })?;
                scene.refused(
                    Command::Preserve {
                        session: "other".to_owned(),
                        card: CARD,
                        what,
                        token: 9,
                    },
                    &[],
                )?;
                scene.order(Command::SessionClose {
                    session: "other".to_owned(),
                })?;
                Ok(())
            }
            Self::HoleRefused => {
                let session = || "hole".to_owned();
                let preserve = |what, token| Command::Preserve {
                    session: session(),
                    card: CARD,
                    what,
                    token,
                };
                scene.order(Command::PunchHole { card: CARD })?;
                scene.order(Command::SessionCreate { session: session() })?;
                scene.order(preserve(What::Memory, 1))?;
                scene.refused(preserve(What::Iommufd, 2), &[EINVAL])?;
                ensure!(
                    scene.machine.console.says("memory was taken out of a file"),
                    "the iommufd was refused, but the kernel's log does not name the hole"
                );
                scene.order(Command::SessionClose { session: session() })?;
                Ok(())
            }
            Self::FinishRefused => scene.refused(
                Command::Finish {
                    session: SESSION.to_owned(),
                },
                &[],
            ),
            Self::JumpRefused => scene.refused(Command::Kexec, &[]),
            Self::SwapHere => scene.swaps(20, 2_000).map(|_| ()),
        }
    }
}

pub(crate) fn tests() -> Vec<Test> {
    use Action as Do;
    let after_jump = |before: &[Action]| -> Vec<Action> {
        before
            .iter()
            .copied()
            .chain([Do::Jump])
            .chain(TAKE_BACK)
            .collect()
    };
    let lists: Vec<(&str, &str, Vec<Action>)> = vec![
        (
            "abort_after_each_preserve",
            "a session closed after any step leaves the old kernel as it was; a later try works",
            after_jump(&[
                Do::Prepare,
                Do::PreserveSome(1),
                Do::Abort,
                Do::PreserveSome(2),
                Do::Abort,
                Do::PreserveSome(3),
                Do::Abort,
                Do::Preserve,
            ]),
        ),
        (
            "preserve_in_the_wrong_order_is_refused",
            "an iommufd without its memory and a device without its iommufd are refused",
            after_jump(&[
                Do::Prepare,
                Do::PreserveRefused(What::Iommufd),
                Do::PreserveRefused(What::Device),
                Do::Preserve,
            ]),
        ),
        (
            "a_jump_without_a_kernel_is_refused",
            "a refused jump leaves the old kernel running and the frames landing",
            vec![Do::JumpRefused, Do::SwapHere],
        ),
        (
            // Its twin are all the others, which punch no hole.
            "a_hole_in_the_memory_is_refused",
            "tables that map what is not the file's any more are not preserved",
            vec![Do::Prepare, Do::HoleRefused, Do::SwapHere],
        ),
        (
            "what_comes_too_early_is_refused",
            "after the jump only the session opens the device, and finish waits for the swap",
            vec![
                Do::Prepare,
                Do::Preserve,
                Do::Jump,
                Do::OpenRefused,
                Do::Retrieve,
                Do::FinishRefused,
                Do::Rebuild,
                Do::FinishRefused,
                Do::Swap,
                Do::Finish,
            ],
        ),
        (
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
    ];
    lists
        .into_iter()
        .map(|(name, about, actions)| {
            Test::new(
                format!("lifecycle::{name}"),
                "legacy",
                about,
                move |bench| run(bench, name, &actions),
            )
        })
        .collect()
}

fn run(bench: &Bench, name: &str, actions: &[Action]) -> Result<End> {
    let mut scene = Scene::boot(plan(name, "legacy", "")?, &bench.parts)?;
    let ended = play(&mut scene, actions);
    let mut outcome = scene.end(ended)?;
    if !actions.iter().any(|action| matches!(action, Action::Jump)) {
        // Without a jump the verdict misses the frames in it, and nothing else.
        outcome.verdict.faults.retain(|fault| {
            !fault.starts_with("no frame landed during") && !fault.starts_with("no update")
        });
    }
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
