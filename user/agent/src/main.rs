// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `hitlessd`: the agent as a program, and calls of one that runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use clap::{Parser, Subcommand};
use hitless_agent::control::{self, AgentCalls, Trouble, Vm};
use hitless_agent::keeper::{Keeper, Times};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// Exit status of a call that may succeed later.
const LATER: u8 = 75;
/// How often the list is asked for while somebody waits.
const PAUSE: Duration = Duration::from_millis(50);

/// Before a control socket that has failed is made anew.
const AGAIN: Duration = Duration::from_millis(200);

/// Holds virtual machines of QEMU through an update of the kernel.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The folder with the control socket, and a folder for each VM.
    #[arg(long, global = true, default_value = "/run/hitlessd")]
    dir: PathBuf,
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Be the agent, until it is ended. The VMs that it has end with it.
    Serve {
        /// Seconds until a QEMU connects, or listens.
        #[arg(long, default_value_t = 3600)]
        wait: u64,
        /// Seconds for all that comes on one channel.
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// List all VMs: name, place, machine, devices, and what went wrong last.
    List,
    /// Wait for the QEMU that gives a VM; it connects to cpr.sock and main.sock in the VM's folder.
    Expect {
        /// The VM.
        name: String,
        /// The user of its QEMU.
        #[arg(long, default_value_t = rustix::process::geteuid().as_raw())]
        uid: u32,
        /// The group of its QEMU.
        #[arg(long, default_value_t = rustix::process::getegid().as_raw())]
        gid: u32,
    },
    /// Put a VM into a session, which goes through the jump.
    Hold {
        /// The VM.
        name: String,
    },
    /// Take a VM out of its session again.
    GiveBack {
        /// The VM.
        name: String,
    },
    /// Take a VM over from the kernel before. Ends with status 75 while vfio-pci is not bound to its devices.
    Retrieve {
        /// The VM.
        name: String,
    },
    /// Give a VM up: its devices stop, and everything of it is free. For one that cannot come back.
    Abandon {
        /// The VM.
        name: String,
    },
    /// Hand a VM to a new QEMU, which listens on cpr.sock and main.sock in the VM's folder.
    HandOn {
        /// The VM.
        name: String,
    },
    /// Wait until a VM is at a place, such as `given` or `handed on`.
    Await {
        /// The VM.
        name: String,
        /// The place.
        place: String,
        /// Seconds until it is given up.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> Result<ExitCode> {
    let Cli { dir, call } = Cli::parse();
    match call {
        Call::Serve { wait, patience } => {
            let [wait, patience] = [wait, patience].map(Duration::from_secs);
            serve(&dir, Times { wait, patience }).map(|()| ExitCode::SUCCESS)
        }
        Call::Await {
            name,
            place,
            seconds,
        } => wait(&dir, &name, &place, Duration::from_secs(seconds)),
        call => async_io::block_on(ask(&dir, call)),
    }
}

fn serve(folder: &Path, times: Times) -> Result<()> {
    // The control socket is for this user only.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // QEMUs go through it into the folders of their VMs.
    fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    let lock = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another hitlessd has {}", folder.display()))?;
    let socket = folder.join(control::SOCKET);
    let keeper = Keeper::new(folder, times);
    more_descriptors();
    loop {
        // A process before has left it, or this one itself; nobody else has the lock.
        let _ = fs::remove_file(&socket);
        // It ends for lack of descriptors, for example. The VMs would be gone with this process.
        match async_io::block_on(control::serve(&socket, keeper.clone())) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("hitlessd: the control socket: {error}; it is made anew"),
        }
        thread::sleep(AGAIN);
    }
}

/// Each VM has some dozens of them. Where that cannot be changed, what is there has to do.
fn more_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        eprintln!("hitlessd: the number of descriptors cannot be raised: {error}");
    }
}

async fn ask(folder: &Path, call: Call) -> Result<ExitCode> {
    let mut agent = connect(folder).await?;
    let answer = match call {
        Call::List => {
            for vm in list(folder).await? {
                println!("{}", line(&vm));
            }
            Ok(())
        }
        Call::Expect { name, uid, gid } => agent.expect(&name, uid, gid).await?,
        Call::Hold { name } => agent.hold(&name).await?,
        Call::GiveBack { name } => agent.give_back(&name).await?,
        Call::Retrieve { name } => agent.retrieve(&name).await?,
        Call::Abandon { name } => agent.abandon(&name).await?,
        Call::HandOn { name } => agent.hand_on(&name).await?,
        Call::Serve { .. } | Call::Await { .. } => bail!("this is no call"),
    };
    Ok(match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::NotDone { why, later }) => {
            eprintln!("hitlessd: {why}");
            if later {
                ExitCode::from(LATER)
            } else {
                ExitCode::FAILURE
            }
        }
    })
}

async fn list(folder: &Path) -> Result<Vec<Vm>> {
    Ok(connect(folder).await?.list().await??.vms)
}

async fn connect(folder: &Path) -> Result<zlink::unix::Connection> {
    let socket = folder.join(control::SOCKET);
    let connected = zlink::unix::connect(&socket).await;
    connected.with_context(|| format!("no hitlessd answers on {}", socket.display()))
}

/// A VM that has come to the wrong end does not get to the right place by itself.
fn wait(folder: &Path, name: &str, place: &str, patience: Duration) -> Result<ExitCode> {
    let end = Instant::now() + patience;
    loop {
        let vms = async_io::block_on(list(folder))?;
        let vm = vms.into_iter().find(|vm| vm.name == name);
        let vm = vm.with_context(|| format!("there is no VM {name}"))?;
        if vm.place == place {
            println!("{}", line(&vm));
            return Ok(ExitCode::SUCCESS);
        }
        let is_on_its_way = matches!(&*vm.place, "waiting" | "handing on" | "busy");
        ensure!(is_on_its_way && Instant::now() < end, "{}", line(&vm));
        thread::sleep(PAUSE);
    }
}

fn line(vm: &Vm) -> String {
    let machine = vm.machine.as_deref().unwrap_or("-");
    let trouble = vm.trouble.as_deref().unwrap_or("-");
    let devices = vm.devices.join(",");
    format!("{}\t{}\t{machine}\t{devices}\t{trouble}", vm.name, vm.place)
}
