// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What calls answer.

use serde::{Deserialize, Serialize};
use zlink::introspect::{CustomType, ReplyError as Described, Type};
use zlink::ReplyError;

use crate::keeper::Listed;
use crate::refusal::Error;

/// A VM that the agent has or waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[zlink(crate = "zlink")]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// What has happened to it so far: `waiting`, `failed`, `given`, `held`, `coming`, `handing on`, `handed on`, `busy`.
    pub place: String,
    /// The machine with its version, where it is known.
    pub machine: Option<String>,
    /// Its VFIO devices, where they are known.
    pub devices: Vec<String>,
    /// What went wrong last.
    pub trouble: Option<String>,
}

impl From<Listed> for Vm {
    fn from(listed: Listed) -> Self {
        let Listed {
            name,
            place,
            machine,
            devices,
            trouble,
        } = listed;
        Self {
            name,
            place: place.to_owned(),
            machine,
            devices,
            trouble,
        }
    }
}

/// All VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[zlink(crate = "zlink")]
pub struct Vms {
    /// In the order of their names.
    pub vms: Vec<Vm>,
}

/// What a call answers that was not done.
#[derive(Clone, Debug, PartialEq, ReplyError, Described)]
#[zlink(interface = "io.hitless.Agent", crate = "zlink")]
pub enum Trouble {
    /// It was not done.
    NotDone {
        /// Why.
        why: String,
        /// The same call may succeed later, because vfio-pci is not bound to a device yet.
        later: bool,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::NotDone { why, .. } = self;
        to.write_str(why)
    }
}

impl std::error::Error for Trouble {}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::NotDone {
            why: error.to_string(),
            later: error.is_too_early(),
        }
    }
}
