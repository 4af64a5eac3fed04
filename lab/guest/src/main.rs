// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest program: PID 1 of the lab's machine, and a VMM as far as a live update is concerned.
//!
//! It holds the memory of a pretend VM, an iommufd and a network card's VFIO device file, lets the card receive into
//! that memory, and takes all of it through a jump into the next kernel. It has no script of its own: the lab sends
//! [`hitless_proto::Order`]s over the second serial port and gets [`hitless_proto::Report`]s back.
//!
//! | module | what |
//! |---|---|
//! | `init` | what PID 1 does before anything else |
//! | `control` | the serial port: orders in, reports out |
//! | `orders` | one order after the other |
//! | `line` | an order or a report as a line |
//! | `owner` | another process that owns cards, and can be killed |
//! | `card` | a card with its memory, iommufd and device file |
//! | `crowd` | many functions that share an iommufd, as one |
//! | `update` | cards and crowds that go through an update together, by `hitless_vmm` |
//! | `igb` | the card's registers |
//! | `ring`, `harvester` | what the card wrote: taken, checked, counted, posted again |
//! | `pages` | where memory is physically |
//! | `menu` | for a person at the console, instead of the lab |
//!
//! Nothing in here makes an ioctl or a mapping itself: that is `hitless_uapi`'s.
#![forbid(unsafe_code)]

mod card;
mod control;
mod crowd;
mod harvester;
mod igb;
mod init;
mod line;
mod menu;
mod orders;
mod owner;
mod pages;
mod ring;
mod update;

fn main() {
    let is_init = rustix::process::getpid().is_init();
    if !is_init && std::env::args().nth(1).as_deref() == Some(owner::ARGUMENT) {
        if let Err(error) = control::serve_first() {
            eprintln!("owner: {error:#}");
        }
        return;
    }
    if !is_init {
        eprintln!(
            "This is the guest program of the hitless lab: it takes over the machine it runs on, so it runs as PID 1 \
             of a virtual machine only. `cargo lab boot` starts one."
        );
        std::process::exit(2);
    }
    let ended = init::run().and_then(|()| match menu::is_wanted() {
        true => menu::run(),
        false => control::serve(),
    });
    if let Err(error) = ended {
        eprintln!("guest: {error:#}");
    }
    init::power_off();
}
