// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The picture: frames over time, with the phases marked.

use std::path::Path;

use anyhow::{anyhow, Result};
use plotters::prelude::*;

use crate::evidence::phases::Name;
use crate::evidence::witness::Landing;
use crate::machine::clock::{as_ms, Ns, MS};
use crate::play::end::Outcome;

/// Width of one bar.
const BIN: Ns = 100 * MS;
/// Pixels.
const SIZE: (u32, u32) = (1400, 620);
/// Pixels below the chart for the names of the phases.
const LEGEND: u32 = 110;
/// Names in one row of the legend.
const COLUMNS: usize = 6;

/// The colour of a phase.
fn colour(name: Name) -> RGBColor {
    let (red, green, blue) = match name {
        Name::Preserve => (76, 120, 168),
        Name::FreezeAndShutdown => (245, 133, 24),
        Name::JumpToEntry => (228, 87, 86),
        Name::KernelBoot => (238, 202, 59),
        Name::IommuAdopt => (84, 162, 75),
        Name::DeviceProbe => (114, 183, 178),
        Name::UserSpaceStart => (255, 157, 166),
        Name::MemoryFilled => (186, 176, 172),
        Name::Retrieve => (157, 117, 93),
        Name::Compaction => (140, 140, 140),
        Name::Rebuild => (178, 121, 162),
        Name::Swap => (213, 42, 42),
        Name::FurtherSwaps => (242, 142, 160),
        Name::Finish => (47, 75, 124),
        Name::Other(_) => (0, 0, 0),
    };
    RGBColor(red, green, blue)
}

/// Frames per second in each bin, as (seconds, frames per second).
fn bins(landings: &[Landing], from: Ns, to: Ns) -> Vec<(f64, f64)> {
    let count = usize::try_from(to.saturating_sub(from) / BIN).unwrap_or(0) + 1;
    let mut frames = vec![0_u32; count];
    for landing in landings {
        let bin = landing.at.saturating_sub(from) / BIN;
        if let Some(bin) = usize::try_from(bin)
            .ok()
            .and_then(|bin| frames.get_mut(bin))
        {
            *bin += 1;
        }
    }
    frames
        .iter()
        .zip(0_u32..)
        .map(|(frames, bin)| {
            let at = f64::from(bin) * as_ms(BIN) / 1e3;
            (at, f64::from(*frames) * 1e3 / as_ms(BIN))
        })
        .collect()
}

/// Draws the run.
pub(super) fn draw(outcome: &Outcome, path: &Path) -> Result<()> {
    try_draw(outcome, path).map_err(|error| {
        anyhow!(
            "the picture can not be written to {}: {error}",
            path.display()
        )
    })
}

fn try_draw(outcome: &Outcome, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let evidence = &outcome.evidence;
    let from = outcome.started;
    let seconds = |at: Ns| as_ms(at.saturating_sub(from)) / 1e3;
    let bars = bins(&evidence.seen.landings, from, evidence.stopped);
    let end = seconds(evidence.stopped).max(0.1);
    let top = bars.iter().map(|(_, rate)| *rate).fold(10.0, f64::max) * 1.1;

    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(SIZE.1 - LEGEND);
    let title = format!(
        "{}: frames that landed, through {} kernel updates ({} sent, {} lost)",
        evidence.profile,
        evidence.updates,
        outcome.verdict.report.frames_sent,
        outcome.verdict.report.lost
    );
    let mut chart = ChartBuilder::on(&upper)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc("frames per second")
        .draw()?;
    chart.draw_series(evidence.phases.iter().map(|phase| {
        let corners = [(seconds(phase.from), 0.0), (seconds(phase.to), top)];
        Rectangle::new(corners, colour(phase.name).mix(0.35).filled())
    }))?;
    chart.draw_series(AreaSeries::new(bars, 0.0, BLACK.mix(0.25)).border_style(BLACK))?;
    for (from, _) in &evidence.jumps {
        let at = seconds(*from);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, top)], RED.stroke_width(2)))?;
    }
    for (number, name) in Name::DEMO.into_iter().enumerate() {
        let column = i32::try_from(number % COLUMNS)?;
        let row = i32::try_from(number / COLUMNS)?;
        let (x, y) = (70 + column * 215, 8 + row * 32);
        lower.draw(&Rectangle::new(
            [(x, y), (x + 18, y + 18)],
            colour(name).mix(0.6).filled(),
        ))?;
        lower.draw(&Text::new(
            name.to_string(),
            (x + 26, y + 2),
            ("sans-serif", 15),
        ))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_in_their_bins() {
        let landing = |at| Landing {
            at,
            sequence: 0,
            sent: 0,
        };
        let landings = [landing(500 * MS), landing(501 * MS), landing(701 * MS)];
        let bars = bins(&landings, 500 * MS, 750 * MS);
        assert_eq!(bars, [(0.0, 20.0), (0.1, 0.0), (0.2, 10.0)]);
    }
}
