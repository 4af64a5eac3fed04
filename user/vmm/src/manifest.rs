// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The memfd in the session that says what else is in it.
//!
//! ```text
//! offset  bytes  field
//!      0      4  version, little-endian: 1
//!      4      4  CRC-32 (IEEE 802.3) of everything behind this field
//!      8      8  magic: the bytes `hitlvmm\0`
//!     16      8  bytes of the description
//!     24      8  bytes of the VMM's own state
//!     32         the description, JSON
//!                the VMM's own state
//! ```
//!
//! The description is JSON because it is small, because a person who looks into a session can read it, and because
//! `serde_json` is as widely used and tested against hostile input as any format's reader is: it limits depth, and never
//! allocates by a length that the input claims. The state, which may be large, is beside it as it is.
//!
//! The version comes first, so that a later format may change everything else. What is here may have been written by
//! anybody who held the session: it is read once, checked, and only then believed. It is the VMM's side of the handover;
//! the kernel checks by its own records whatever is done with it.

use std::collections::BTreeSet;

use hitless_uapi::vfio::Irq;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Flaw};
use crate::mapping::Mapping;
use crate::plan::Plan;

/// The version that this library writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The token of the manifest in the session. Those of the other files that this library preserves come right after it; a
/// VMM that preserves files of its own in the same session chooses other tokens.
pub const MANIFEST_TOKEN: u64 = 0x6869_746c_0000_0000;
/// The token of the notes.
pub(crate) const NOTES_TOKEN: u64 = MANIFEST_TOKEN + 1;
/// Most bytes of the VMM's own state.
pub const MAX_STATE: usize = 64 << 20;
/// Most bytes of the description.
const MAX_BODY: usize = 64 << 20;
const MAGIC: [u8; 8] = *b"hitlvmm\0";
const HEADER: usize = 32;
/// Most bytes of a manifest.
pub(crate) const MAX_LENGTH: u64 = (HEADER + MAX_BODY + MAX_STATE) as u64;

/// A file of the session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    token: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hwpt {
    name: String,
    iommufd: String,
    token: u64,
    mappings: Vec<Mapping>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    name: String,
    token: u64,
    hwpt: String,
    interrupts: Option<Interrupts>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interrupts {
    kind: Kind,
    vectors: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Intx,
    Msi,
    Msix,
}

impl From<Irq> for Kind {
    fn from(kind: Irq) -> Self {
        match kind {
            Irq::Intx => Self::Intx,
            Irq::Msi => Self::Msi,
            Irq::Msix => Self::Msix,
        }
    }
}

impl From<Kind> for Irq {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Intx => Self::Intx,
            Kind::Msi => Self::Msi,
            Kind::Msix => Self::Msix,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    memories: Vec<File>,
    iommufds: Vec<File>,
    hwpts: Vec<Hwpt>,
    devices: Vec<Device>,
}

/// The tokens of all files in a session, in the order of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) memories: Vec<u64>,
    pub(crate) iommufds: Vec<u64>,
    pub(crate) devices: Vec<u64>,
}

impl Tokens {
    /// One after the other.
    pub(crate) fn assign(plan: &Plan) -> Self {
        let mut next = NOTES_TOKEN + 1..;
        let mut some = |count| next.by_ref().take(count).collect();
        Self {
            memories: some(plan.memories.len()),
            iommufds: some(plan.iommufds.len()),
            devices: some(plan.devices.len()),
        }
    }
}

/// What a session says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) plan: Plan,
    pub(crate) tokens: Tokens,
    pub(crate) state: Vec<u8>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let file = |(name, token): (&String, &u64)| File {
            name: name.clone(),
            token: *token,
        };
        let Self { plan, tokens, .. } = self;
        let body = Body {
            memories: plan
                .memories
                .iter()
                .zip(&tokens.memories)
                .map(file)
                .collect(),
            iommufds: plan
                .iommufds
                .iter()
                .zip(&tokens.iommufds)
                .map(file)
                .collect(),
            hwpts: plan
                .hwpts
                .iter()
                .map(|hwpt| Hwpt {
                    name: hwpt.name.clone(),
                    iommufd: plan.iommufds[hwpt.iommufd].clone(),
                    token: hwpt.token,
                    mappings: hwpt.mappings.clone(),
                })
                .collect(),
            devices: plan
                .devices
                .iter()
                .zip(&tokens.devices)
                .map(|(device, token)| Device {
                    name: device.name.clone(),
                    token: *token,
                    hwpt: plan.hwpts[device.hwpt].name.clone(),
                    interrupts: device.interrupts.map(|interrupts| Interrupts {
                        kind: interrupts.kind.into(),
                        vectors: interrupts.vectors,
                    }),
                })
                .collect(),
        };
        // Structures of strings, numbers and lists always have a JSON form.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut bytes = vec![0; 8];
        bytes.extend(MAGIC);
        for length in [body.len(), self.state.len()] {
            bytes.extend((length as u64).to_le_bytes());
        }
        bytes.extend(body);
        bytes.extend(&self.state);
        let sum = crc32fast::hash(&bytes[8..]);
        bytes[..4].copy_from_slice(&VERSION.to_le_bytes());
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The one way from bytes to a manifest.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let (version, rest) = bytes.split_first_chunk().ok_or(Flaw::Length)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(Flaw::UnknownVersion(version));
        }
        let (sum, summed) = rest.split_first_chunk().ok_or(Flaw::Length)?;
        let (magic, rest) = summed.split_first_chunk::<8>().ok_or(Flaw::Length)?;
        if *magic != MAGIC {
            return Err(Flaw::NotAManifest);
        }
        let (body_length, rest) = rest.split_first_chunk().ok_or(Flaw::Length)?;
        let (state_length, rest) = rest.split_first_chunk().ok_or(Flaw::Length)?;
        let [body_length, state_length] =
            [body_length, state_length].map(|bytes| u64::from_le_bytes(*bytes));
        let both = body_length.checked_add(state_length);
        if both != Some(rest.len() as u64) || state_length > MAX_STATE as u64 {
            return Err(Flaw::Length);
        }
        if crc32fast::hash(summed) != u32::from_le_bytes(*sum) {
            return Err(Flaw::Damaged);
        }
        // CAST: no more than the length of a slice.
        let (body, state) = rest.split_at(body_length as usize);
        let body: Body = serde_json::from_slice(body).map_err(Flaw::Description)?;
        body.check(state)
    }
}

impl Body {
    fn check(self, state: &[u8]) -> Result<Manifest, Flaw> {
        let tokens = |files: &[File]| files.iter().map(|file| file.token).collect();
        let tokens = Tokens {
            memories: tokens(&self.memories),
            iommufds: tokens(&self.iommufds),
            devices: self.devices.iter().map(|device| device.token).collect(),
        };
        let mut seen = BTreeSet::from([MANIFEST_TOKEN, NOTES_TOKEN]);
        for token in [&tokens.memories, &tokens.iommufds, &tokens.devices]
            .into_iter()
            .flatten()
        {
            if !seen.insert(*token) {
                return Err(Flaw::Token(*token));
            }
        }
        let plan = self
            .plan()
            .map_err(|error| Flaw::Contents(Box::new(error)))?;
        Ok(Manifest {
            plan,
            tokens,
            state: state.to_vec(),
        })
    }

    /// The same way that the VMM's own names took.
    fn plan(self) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        for memory in &self.memories {
            plan.add_memory(&memory.name)?;
        }
        for iommufd in &self.iommufds {
            plan.add_iommufd(&iommufd.name)?;
        }
        for hwpt in self.hwpts {
            plan.add_hwpt(&hwpt.name, &hwpt.iommufd, hwpt.token)?;
            for mapping in hwpt.mappings {
                plan.add_mapping(&hwpt.name, mapping)?;
            }
        }
        for device in self.devices {
            plan.add_device(&device.name, &device.hwpt)?;
            if let Some(Interrupts { kind, vectors }) = device.interrupts {
                plan.set_interrupts(&device.name, kind.into(), vectors)?;
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
