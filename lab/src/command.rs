// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running other programs: quietly, with the end of their output in the error when they fail.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{bail, Context, Result};
use rustix::pipe::{pipe_with, PipeFlags};

use crate::trouble::trouble;

/// How many of the last lines of a failed program's output are shown.
const TAIL: usize = 25;

/// The path of a program found on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs to the end and returns stdout; the error has the program's last lines.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let result = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| explain(command, &error))?;
    let out = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        let text = format!("{out}{}", String::from_utf8_lossy(&result.stderr));
        bail!(
            "`{shown}` failed ({}):\n{}",
            status_text(result.status),
            tail(&text, TAIL)
        );
    }
    Ok(out)
}

/// Runs to the end with all output into `log` (appended), each line also given to `each`.
pub fn logged(command: &mut Command, log: &Path, mut each: impl FnMut(&str)) -> Result<()> {
    let shown = show(command);
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    writeln!(file, "$ {shown}")?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().map_err(|error| explain(command, &error))?;
    // The command holds the pipe's other end; reading would never end while it does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(File::from(reader)).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}")?;
        each(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        let text = fs::read(log).unwrap_or_default();
        bail!(
            "`{shown}` failed ({}); the end of {}:\n{}",
            status_text(status),
            log.display(),
            failure_tail(&String::from_utf8_lossy(&text))
        );
    }
    Ok(())
}

/// Errors first when a long log has them: a parallel build buries the cause above its tail.
fn failure_tail(text: &str) -> String {
    let last_run = text.rsplit("\n$ ").next().unwrap_or(text);
    let errors: Vec<&str> = last_run
        .lines()
        .filter(|line| line.contains("error:") || line.contains("error[") || line.contains("*** "))
        .take(10)
        .collect();
    let mut shown = errors.join("\n");
    if !shown.is_empty() {
        shown.push_str("\n  ...\n");
    }
    shown + &tail(last_run, TAIL)
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let mut text = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn status_text(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("status {code}"),
        None => "ended by a signal".to_owned(),
    }
}

fn explain(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    match trouble::<()>(
        format!("cannot start {program}: {error}"),
        format!("run `cargo lab setup`, or install {program}"),
    ) {
        Ok(()) => unreachable!("trouble always is an error"),
        Err(trouble) => trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_carries_status_and_words() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("status 3") && error.contains("why"),
            "{error}"
        );
    }

    #[test]
    fn missing_program_says_what_to_do() {
        let error = output(&mut Command::new("no-such-program-at-all"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("what to do"), "{error}");
    }

    #[test]
    fn log_has_everything_and_errors_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut lines = 0;
        let script = "echo x.c:1: error: bad; for i in $(seq 60); do echo line $i; done; exit 2";
        let error = logged(Command::new("sh").args(["-c", script]), &log, |_| {
            lines += 1
        })
        .unwrap_err()
        .to_string();
        assert_eq!(lines, 61);
        assert!(
            error.contains("error: bad") && error.contains("line 60"),
            "{error}"
        );
        assert!(fs::read_to_string(&log).unwrap().contains("line 7\n"));
    }
}
