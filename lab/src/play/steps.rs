// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole run: updates in a row, or the same without hitless.

use std::time::Duration;

use anyhow::Result;

use crate::play::end::Outcome;
use crate::play::scene::{Scene, SETTLE};

/// Kernel parameter that switches hitless off.
pub const OFF: &str = "hitless=off";

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Updates in a row.
    pub updates: u32,
    /// Traffic before the first update and after each one.
    pub pause: Duration,
    /// Without hitless.
    pub control: bool,
}

impl Steps {
    /// Plays it on a machine that has booted; whatever goes wrong once the frames flow is in the verdict.
    pub fn play(self, mut scene: Scene) -> Result<Outcome> {
        let ended = self.steps(&mut scene);
        scene.end(ended)
    }

    fn steps(self, scene: &mut Scene) -> Result<()> {
        scene.receive_both()?;
        scene.flow(self.pause.max(SETTLE));
        for _ in 0..self.updates {
            if self.control {
                scene.update_without()?;
            } else {
                scene.update()?;
            }
            scene.flow(self.pause.max(SETTLE));
        }
        if !self.control {
            scene.flow_round_the_ring()?;
        }
        Ok(())
    }
}
