// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls, as the keeper does them.

use zlink::service;

use super::types::{Trouble, Vm, Vms};
use crate::keeper::Keeper;
use crate::socket::Owner;

/// The service.
pub(super) struct Agent(pub(super) Keeper);

#[service(
    crate = "zlink",
    interface = "io.hitless.Agent",
    types = [Vm],
    vendor = "hitless",
    product = "hitlessd",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://docs.rs/hitless_agent"
)]
impl Agent {
    /// Lists all VMs.
    async fn list(&self) -> Vms {
        let vms = self.0.list().into_iter().map(Vm::from);
        Vms { vms: vms.collect() }
    }

    /// Waits for the QEMU that gives a VM.
    async fn expect(&self, name: String, uid: u32, gid: u32) -> Result<(), Trouble> {
        Ok(self.0.expect(&name, Owner { uid, gid })?)
    }

    /// Puts a VM into a session.
    async fn hold(&self, name: String) -> Result<(), Trouble> {
        Ok(self.0.hold(&name)?)
    }

    /// Takes a VM out of its session again.
    async fn give_back(&self, name: String) -> Result<(), Trouble> {
        Ok(self.0.give_back(&name)?)
    }

    /// Takes a VM over from the kernel before.
    async fn retrieve(&self, name: String) -> Result<(), Trouble> {
        Ok(self.0.retrieve(&name)?)
    }

    /// Gives a VM up: its devices stop, and everything of it is free.
    async fn abandon(&self, name: String) -> Result<(), Trouble> {
        Ok(self.0.abandon(&name)?)
    }

    /// Hands a VM to a new QEMU.
    async fn hand_on(&self, name: String) -> Result<(), Trouble> {
        Ok(self.0.hand_on(&name)?)
    }
}
