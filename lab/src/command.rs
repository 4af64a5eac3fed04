// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running other programs: quietly, with the end of their output in the error when they fail.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{kill_process, Pid, Signal};

use crate::trouble::Trouble;

/// How many of the last lines of a failed program's output are shown.
const TAIL: usize = 25;
/// How long a program may take to end that was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Runs to the end with all output into `log` (appended), each line also given to `each`. The program ends when this
/// one does, however that comes.
pub fn logged(command: &mut Command, log: &Path, mut each: impl FnMut(&str)) -> Result<()> {
    let shown = show(command);
    let unwritten = |error: std::io::Error| {
        Trouble::new(
            format!("cannot write {}: {error}", log.display()),
            "see that there is room and whose file it is, then run again: what is complete is kept (target/lab in the checkout may be a link to another file system)",
        )
    };
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(unwritten)?;
    writeln!(file, "$ {shown}").map_err(unwritten)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut running = Running(spawn(command, writer)?);
    for line in BufReader::new(File::from(reader)).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}").map_err(unwritten)?;
        each(&line);
    }
    let status = running.0.wait()?;
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

/// A program that is ended, and waited for, when nobody waits for its own end any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Each fails only when it has ended already.
        if let (Some(pid), Ok(None)) = (pid, self.0.try_wait()) {
            let _ = kill_process(pid, Signal::TERM);
            let start = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
                sleep(Duration::from_millis(10));
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
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
    Trouble::new(
        format!("cannot start {program}: {error}"),
        format!("run `cargo lab setup`, or install {program}"),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

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

    #[test]
    fn a_program_ends_when_its_output_can_not_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let log = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        let mut reader = Some(reader);
        let script = "echo $$; while :; do echo on; sleep 0.01; done";
        let mut id = String::new();
        let error = logged(
            Command::new("sh").args(["-c", script]).current_dir(&dir),
            &log,
            |line| {
                if id.is_empty() {
                    line.clone_into(&mut id);
                }
                // Nobody reads it any more, though this still has it open to write.
                drop(reader.take());
            },
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("what to do: see that there is room"),
            "{error}"
        );
        assert!(!Path::new("/proc").join(&id).exists());
    }

    #[test]
    fn a_logged_program_keeps_its_words_and_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut said = Vec::new();
        let mut sh = Command::new("sh");
        sh.args(["-c", "echo $X ${HOME-none}; pwd; exit 3"]);
        sh.env("X", "x").env_remove("HOME").current_dir("/");
        let error = logged(&mut sh, &log, |line| said.push(line.to_owned()));
        assert_eq!(said, ["x none", "/"]);
        assert!(error.unwrap_err().to_string().starts_with("`sh -c "));
        let missing = logged(&mut Command::new("no-such-program-at-all"), &log, |_| {});
        let error = missing.unwrap_err().to_string();
        assert!(error.contains("cannot start no-such-program"), "{error}");
    }
}
