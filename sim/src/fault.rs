// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fault reasons (VT-d chapter 7 and appendix).

/// Why a DMA faulted. The discriminant is the reason code that a fault record would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// Legacy: root entry not present.
    RootNotPresent = 0x01,
    /// Legacy: context entry not present.
    ContextNotPresent = 0x02,
    /// Legacy: context entry programmed wrongly.
    ContextInvalid = 0x03,
    /// Legacy: address beyond the address width.
    BeyondWidth = 0x04,
    /// Legacy: no write permission.
    Write = 0x05,
    /// Legacy: no read permission.
    Read = 0x06,
    /// Legacy: a page table cannot be accessed.
    PageTableAccess = 0x07,
    /// Legacy: the root table cannot be accessed.
    RootAccess = 0x08,
    /// Legacy: a context table cannot be accessed.
    ContextAccess = 0x09,
    /// Legacy: reserved bits in a root entry.
    RootReserved = 0x0a,
    /// Legacy: reserved bits in a context entry.
    ContextReserved = 0x0b,
    /// Legacy: reserved bits in a page table entry.
    PageReserved = 0x0c,
    /// Legacy: a translation request or translated request, and TT is not 1.
    DeviceTlbBlocked = 0x0d,
    /// Scalable: the root table cannot be accessed.
    ScalableRootAccess = 0x38,
    /// Scalable: root entry not present.
    ScalableRootNotPresent = 0x39,
    /// Scalable: reserved bits in a root entry.
    ScalableRootReserved = 0x3a,
    /// Scalable: a context table cannot be accessed.
    ScalableContextAccess = 0x40,
    /// Scalable: context entry not present.
    ScalableContextNotPresent = 0x41,
    /// Scalable: reserved bits in a context entry.
    ScalableContextReserved = 0x42,
    /// Scalable: a translation request or translated request, and DTE is clear.
    ScalableDeviceTlbBlocked = 0x44,
    /// Scalable: RID_PASID is not in the directory.
    RequestPasid = 0x48,
    /// The PASID directory cannot be accessed.
    DirectoryAccess = 0x50,
    /// PASID directory entry not present.
    DirectoryNotPresent = 0x51,
    /// Reserved bits in a PASID directory entry.
    DirectoryReserved = 0x52,
    /// A PASID table cannot be accessed.
    PasidAccess = 0x58,
    /// PASID entry not present.
    PasidNotPresent = 0x59,
    /// Reserved bits in a PASID entry.
    PasidReserved = 0x5a,
    /// PASID entry programmed wrongly.
    PasidInvalid = 0x5b,
    /// A first-stage table below the top cannot be accessed.
    FirstStageAccess = 0x70,
    /// First-stage entry not present.
    FirstStageNotPresent = 0x71,
    /// Reserved bits in a first-stage entry.
    FirstStageReserved = 0x72,
    /// The top first-stage table cannot be accessed.
    FirstStagePointer = 0x73,
    /// A second-stage table below the top cannot be accessed.
    SecondStageAccess = 0x78,
    /// Second-stage entry without the right that is needed.
    SecondStageRights = 0x79,
    /// Reserved bits in a second-stage entry.
    SecondStageReserved = 0x7a,
    /// The top second-stage table cannot be accessed.
    SecondStagePointer = 0x7b,
    /// First-stage address is not canonical.
    NotCanonical = 0x80,
    /// First-stage page for supervisors, request of a user.
    Privilege = 0x81,
    /// Second-stage address beyond the address width.
    SecondStageBeyondWidth = 0x84,
    /// First stage: no write permission.
    FirstStageWrite = 0x85,
}

impl Fault {
    /// The reason code.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
