// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab demo --vm`: the kernel beneath a real virtual machine is replaced. What is done is a scenario of the tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::figures;
use crate::evidence::inside::Report;
use crate::evidence::iommu::FAULTS;
use crate::play::vm::Outcome;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The profile, which has a virtual machine inside.
    pub profile: &'a str,
    /// Updates in a row.
    pub updates: usize,
    /// Nothing is preserved: shows the loss.
    pub control: bool,
}

/// Runs it.
pub type Inside = fn(&Request<'_>) -> Result<Outcome>;

/// The figures, with those that answer the first questions before all others.
#[derive(Serialize)]
struct Figures<'a> {
    updates: usize,
    /// Before the last update, and after it.
    kernel_from: &'a str,
    kernel_to: &'a str,
    good: bool,
    /// By the name that the IOMMU's kind has for them.
    #[serde(flatten)]
    faults: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    report: &'a Report,
}

/// Runs the demo; the status is 0 only if every promise was kept.
pub(super) fn main(
    request: &Request<'_>,
    json: Option<&Path>,
    keep: bool,
    inside: Inside,
) -> Result<ExitCode> {
    let remark = if request.control {
        ", nothing preserved"
    } else {
        ""
    };
    println!(
        "{}: stock QEMU with a Linux guest that drives a passed-through card. {} updates{remark}.",
        request.profile, request.updates
    );
    let mut outcome = inside(request)?;
    let (report, faults) = (&outcome.verdict.report, &outcome.verdict.faults);
    let good = faults.is_empty() && report.kernels.len() == request.updates + 1;
    print!("{}", timeline(report));
    let mut unwritten = Ok(());
    if let Some(path) = json {
        let [.., from, to] = &report.kernels[..] else {
            anyhow::bail!("no update was done: {}", faults.join("; "));
        };
        unwritten = figures::write(
            &Figures {
                updates: report.kernels.len() - 1,
                kernel_from: from,
                kernel_to: to,
                good,
                faults: [(FAULTS, report.iommu_faults)].into(),
                report,
            },
            path,
        );
        if unwritten.is_ok() {
            println!("figures: {}", path.display());
        }
    }
    println!("{}", closing(report, faults));
    if good && !keep {
        outcome.directory.discard();
    } else {
        println!("logs: {}", outcome.directory.path().display());
    }
    unwritten?;
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The phases of every update, with their lengths.
fn timeline(report: &Report) -> String {
    let kernel = |number: usize| report.kernels.get(number).map_or("?", String::as_str);
    let mut text = String::new();
    let mut last = 0;
    for (update, name, ms) in &report.phases {
        if *update != last {
            last = *update;
            let (old, new) = (kernel(update - 1), kernel(*update));
            text += &format!("\nupdate {update}: {old} -> {new}\n");
        }
        text += &format!("  {name:24}{ms:>12.1} ms\n");
    }
    text + "\n"
}

fn closing(report: &Report, faults: &[String]) -> String {
    let [first, last] = report.uptime_s;
    let guest = format!(
        "the guest's boot {}, up for {first:.1} s at the first frame and {last:.1} s at the last, has answered {} of {} frames",
        report.boots.join(", then "),
        report.answered,
        report.frames_sent
    );
    if faults.is_empty() {
        return format!(
            "OK: {guest}, through {} updates of the kernel beneath it; longest silence {:.1} s, no IOMMU fault, no reset.",
            report.kernels.len() - 1,
            report.longest_silence_ms / 1e3
        );
    }
    format!("FAILED: {guest}; {}.", faults.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_flat_and_name_the_last_update() {
        let report = Report {
            kernels: ["a", "b", "c"].map(str::to_owned).to_vec(),
            phases: vec![(1, "freeze", 2.0), (2, "freeze", 3.0)],
            ..Report::default()
        };
        let figures = Figures {
            updates: 2,
            kernel_from: "b",
            kernel_to: "c",
            good: true,
            faults: [(FAULTS, 0)].into(),
            report: &report,
        };
        let json = serde_json::to_value(&figures).expect("figures");
        for (name, value) in [("updates", 2), ("lost", 0), (FAULTS, 0)] {
            assert_eq!(json[name], value, "{name}");
        }
        assert_eq!([&json["kernel_from"], &json["kernel_to"]], ["b", "c"]);
        let text = timeline(&report);
        assert!(text.contains("update 2: b -> c"), "{text}");
        let said = closing(&report, &["x".to_owned()]);
        assert!(said.starts_with("FAILED: "), "{said}");
    }
}
