// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an error is about: steps, and objects by the names that the VMM gave them.

use std::fmt;

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A memfd.
    Memory,
    /// An iommufd.
    Iommufd,
    /// A HWPT of an iommufd.
    Hwpt,
    /// A device file.
    Device,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Iommufd => "iommufd",
            Self::Hwpt => "HWPT",
            Self::Device => "device",
        })
    }
}

/// A step of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Descriptors are collected.
    Collect,
    /// They go into a session.
    Preserve,
    /// The session is closed, and everything is as it was.
    Undo,
    /// The next kernel is jumped into.
    Jump,
    /// The session is found in the new kernel.
    Find,
    /// Files come out of the session.
    Retrieve,
    /// Devices are bound to their iommufds, and HWPTs are restored.
    Bind,
    /// New HWPTs are built.
    Rebuild,
    /// Devices are attached to them.
    Swap,
    /// Interrupts are set up.
    Arm,
    /// A device is given up.
    GiveUp,
    /// The session is finished.
    Finish,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Collect => "collecting",
            Self::Preserve => "preserving",
            Self::Undo => "taking back out of the session",
            Self::Jump => "jumping with",
            Self::Find => "finding",
            Self::Retrieve => "retrieving",
            Self::Bind => "binding",
            Self::Rebuild => "rebuilding",
            Self::Swap => "swapping",
            Self::Arm => "setting up the interrupts of",
            Self::GiveUp => "giving up",
            Self::Finish => "finishing",
        })
    }
}

/// What a call was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Object {
    /// The session of this name.
    Session(String),
    /// The manifest of the session.
    Manifest,
    /// The notes of the session.
    Notes,
    /// A descriptor of this process.
    Descriptor,
    /// What the VMM called by this name.
    Named(Kind, String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(name) => write!(f, "session `{name}`"),
            Self::Manifest => f.write_str("the manifest"),
            Self::Notes => f.write_str("the notes"),
            Self::Descriptor => f.write_str("a descriptor"),
            Self::Named(kind, name) => write!(f, "{kind} `{name}`"),
        }
    }
}
