// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running other programs: quietly, with the end of their output in the error when they fail.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{bail, Result};
use rustix::pipe::{pipe_with, PipeFlags};

use crate::trouble::Trouble;

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
        bail!("`{shown}` failed ({}):\n{}", result.status, tail(&text));
    }
    Ok(out)
}

/// Runs to the end with all output into `log` (appended), each line also given to `each`. The program ends when this
/// one does, however that comes.
pub fn logged(command: &mut Command, log: &Path, mut each: impl FnMut(&str)) -> Result<()> {
    let shown = show(command);
    let unwritten = |error: io::Error| {
        Trouble::new(
            format!("cannot write {}: {error}", log.display()),
            "see that there is room and whose file it is, then run again: what is complete is kept (target/lab in the checkout may be a link to another file system)",
        )
    };
    let open = File::options().create(true).append(true).open(log);
    let mut file = open.map_err(unwritten)?;
    let mut written = writeln!(file, "$ {shown}");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut child = spawn(command, writer)?;
    let mut said = String::new();
    for line in BufReader::new(File::from(reader)).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        // A program whose output can not be kept runs on, but not for long where there is no room.
        written = written.and_then(|()| writeln!(file, "{line}"));
        said.push_str(&line);
        said.push('\n');
        each(&line);
    }
    let status = child.wait()?;
    written.map_err(unwritten)?;
    if !status.success() {
        bail!(
            "`{shown}` failed ({status}); the end of {}:\n{}",
            log.display(),
            failure_tail(&said)
        );
    }
    Ok(())
}

/// Starts a program that writes to a pipe, of which only the program has the end after that.
fn spawn(command: &Command, writer: OwnedFd) -> Result<Child> {
    let program = Path::new(command.get_program());
    if !program.is_file() && find(&program.to_string_lossy()).is_none() {
        return Err(explain(command, &ErrorKind::NotFound.into()));
    }
    let mut command = with_parent(command);
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    command.spawn().map_err(|error| explain(&command, &error))
}

/// The same command, which the kernel asks to end when this process has ended, even if it was killed. Being asked, make
/// ends what it has started and removes what is half made.
fn with_parent(command: &Command) -> Command {
    let mut words = Command::new("setpriv");
    words
        .args(["--pdeathsig", "TERM", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => words.env(name, value),
            None => words.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        words.current_dir(folder);
    }
    words
}

/// Errors first when a long log has them: a parallel build buries the cause above its tail.
fn failure_tail(text: &str) -> String {
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("error:") || line.contains("error[") || line.contains("*** "))
        .take(10)
        .collect();
    let mut shown = errors.join("\n");
    if !shown.is_empty() {
        shown.push_str("\n  ...\n");
    }
    shown + &tail(text)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..]
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

fn explain(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    Trouble::new(
        format!("cannot start {program}: {error}"),
        format!("run `cargo lab setup`, or install {program}"),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]);
        sh
    }

    #[test]
    fn failure_carries_status_and_words() {
        let error = output(&mut sh("echo why >&2; exit 3")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("status: 3") && error.contains("why"));
        let nothing = || Command::new("no-such-program-at-all");
        for error in [
            output(&mut nothing()).map(drop),
            logged(&mut nothing(), Path::new("/dev/null"), |_| {}),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("start no-such-program") && error.contains("what to do"));
        }
    }

    #[test]
    fn log_has_everything_and_errors_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut said = Vec::new();
        let script = "echo $X ${HOME-none}; pwd; echo x.c:1: error: bad; seq 60; exit 2";
        let mut command = sh(script);
        command.env("X", "x").env_remove("HOME").current_dir("/");
        let error = logged(&mut command, &log, |line| said.push(line.to_owned()));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("`sh -c "), "{error}");
        assert!(error.contains("error: bad") && error.contains("    60"));
        assert_eq!(
            (&said[..2], said.len()),
            (&["x none", "/"].map(str::to_owned)[..], 63)
        );
        assert!(std::fs::read_to_string(&log).unwrap().contains("\n7\n"));
    }

    #[test]
    fn a_log_that_can_not_be_kept_is_told() {
        let error = logged(&mut sh("echo on"), Path::new("/dev/full"), |_| {});
        let error = error.unwrap_err().to_string();
        assert!(error.contains("what to do: see that there is room"));
    }
}
