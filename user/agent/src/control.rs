// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface: Varlink, on a socket that only the agent's own user can reach.
//!
//! `varlinkctl introspect unix:DIR/control.sock io.hitless.Agent` tells all of it.

use std::path::Path;

use zlink::Server;

use crate::keeper::Keeper;
use service::Agent;
pub use types::{Trouble, Vm, Vms};

mod service;
mod types;

/// The file name of the control socket, in the folder of the agent.
pub const SOCKET: &str = "control.sock";

/// Calls of the service, for its clients.
#[zlink::proxy(interface = "io.hitless.Agent", crate = "zlink")]
pub trait AgentCalls {
    /// Lists all VMs.
    async fn list(&mut self) -> zlink::Result<Result<Vms, Trouble>>;
    /// Waits for the QEMU that gives a VM.
    async fn expect(
        &mut self,
        name: &str,
        uid: u32,
        gid: u32,
    ) -> zlink::Result<Result<(), Trouble>>;
    /// Puts a VM into a session.
    async fn hold(&mut self, name: &str) -> zlink::Result<Result<(), Trouble>>;
    /// Takes a VM out of its session again.
    async fn give_back(&mut self, name: &str) -> zlink::Result<Result<(), Trouble>>;
    /// Takes a VM over from the kernel before.
    async fn retrieve(&mut self, name: &str) -> zlink::Result<Result<(), Trouble>>;
    /// Gives a VM up.
    async fn abandon(&mut self, name: &str) -> zlink::Result<Result<(), Trouble>>;
    /// Hands a VM to a new QEMU.
    async fn hand_on(&mut self, name: &str) -> zlink::Result<Result<(), Trouble>>;
}

/// Serves a keeper on a socket, for ever.
///
/// # Errors
///
/// Those of the socket.
pub async fn serve(socket: &Path, keeper: Keeper) -> zlink::Result<()> {
    let listener = zlink::unix::bind(socket)?;
    Server::new(listener, Agent(keeper)).run().await
}
