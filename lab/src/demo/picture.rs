// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The picture: frames over time, with the phases marked.

use std::iter::zip;
use std::path::{Path, PathBuf};

use anyhow::{bail, Result};
use plotters::prelude::*;

use crate::evidence::phases::demo;
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
fn colour(name: &str) -> RGBAColor {
    let place = demo().iter().position(|other| *other == name);
    place.map_or(BLACK.to_rgba(), |place| Palette99::pick(place).to_rgba())
}

/// Frames per second in each bin, as (seconds, frames per second).
fn bins(landings: &[Landing], from: Ns, to: Ns) -> Vec<(f64, f64)> {
    let bin = |at: Ns| (at.saturating_sub(from) / BIN) as usize;
    let width = as_ms(BIN) / 1e3;
    let mut rates = vec![0.0; bin(to) + 1];
    for landing in landings {
        if let Some(rate) = rates.get_mut(bin(landing.at)) {
            *rate += 1.0 / width;
        }
    }
    let starts = (0..).map(|bin| f64::from(bin) * width);
    zip(starts, rates).collect()
}

/// Draws the run; returns where.
pub(super) fn draw(outcome: &Outcome, path: PathBuf) -> Result<PathBuf> {
    match try_draw(outcome, &path) {
        Ok(()) => Ok(path),
        Err(error) => bail!(
            "the picture can not be written to {}: {error}",
            path.display()
        ),
    }
}

fn try_draw(outcome: &Outcome, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (evidence, report) = (&outcome.evidence, &outcome.verdict.report);
    let from = evidence.started;
    let seconds = |at: Ns| as_ms(at.saturating_sub(from)) / 1e3;
    let bars = bins(&evidence.seen.landings, from, evidence.stopped);
    let end = seconds(evidence.stopped).max(0.1);
    let top = bars.iter().map(|(_, rate)| *rate).fold(10.0, f64::max) * 1.1;

    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(SIZE.1 - LEGEND);
    let title = format!(
        "{}: frames that landed, through {} kernel updates ({} sent, {} lost)",
        report.profile, report.updates, report.frames_sent, report.lost
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
    for jump in &evidence.jumps {
        let at = seconds(jump.leave);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, top)], RED.stroke_width(2)))?;
    }
    for (number, name) in demo().into_iter().enumerate() {
        let column = i32::try_from(number % COLUMNS)?;
        let row = i32::try_from(number / COLUMNS)?;
        let (x, y) = (70 + column * 215, 8 + row * 32);
        lower.draw(&Rectangle::new(
            [(x, y), (x + 18, y + 18)],
            colour(name).mix(0.6).filled(),
        ))?;
        let font = ("sans-serif", 15);
        lower.draw(&Text::new(name, (x + 26, y + 2), font))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_in_their_bins() {
        let landings = [500, 501, 701].map(|at| Landing {
            at: at * MS,
            sequence: 0,
            sent: 0,
        });
        let bars = bins(&landings, 500 * MS, 750 * MS);
        assert_eq!(bars, [(0.0, 20.0), (0.1, 0.0), (0.2, 10.0)]);
    }
}
