// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why table contents are not accepted: a closed set of names.

use core::fmt;

use super::bdf::Bdf;

/// Which structure a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Root entry (VT-d 9.1, 9.2).
    Root,
    /// Context entry (VT-d 9.3, 9.4).
    Context,
    /// PASID directory entry (VT-d 9.5).
    PasidDirectory,
    /// PASID table entry (VT-d 9.6).
    Pasid,
    /// Entry of a first-stage or second-stage page table (VT-d 9.7, 9.8).
    Page,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root entry",
            Self::Context => "context entry",
            Self::PasidDirectory => "PASID directory entry",
            Self::Pasid => "PASID table entry",
            Self::Page => "page table entry",
        })
    }
}

/// A field of a context or PASID entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Pointer to the next table (CTP, PASIDDIRPTR, SMPTBLPTR, SSPTPTR, FSPTPTR).
    TablePointer,
    /// Domain identifier (DID).
    DomainId,
    /// Address width (AW): number of second-stage levels.
    AddressWidth,
    /// First-stage paging mode (FSPM): number of first-stage levels.
    PagingMode,
    /// Translation type (TT, PGTT).
    TranslationType,
    /// Fault processing disable (FPD).
    FaultProcessing,
    /// Page-walk snoop (PWSNP).
    PageWalkSnoop,
    /// Page snoop (PGSNP).
    PageSnoop,
    /// Second-stage accessed/dirty enable (SSADE).
    AccessedDirty,
    /// Supervisor request enable (SRE).
    SupervisorRequest,
    /// Write protect enable (WPE).
    WriteProtect,
    /// Extended accessed flag enable (EAFE).
    ExtendedAccessed,
    /// PASID directory size (PDTS).
    DirectorySize,
    /// The PASID that requests without PASID use (RID_PASID), or its privilege (RID_PRIV).
    RequestPasid,
    /// Page request enable (PRE).
    PageRequest,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TablePointer => "table pointer",
            Self::DomainId => "domain id",
            Self::AddressWidth => "address width",
            Self::PagingMode => "first-stage paging mode",
            Self::TranslationType => "translation type",
            Self::FaultProcessing => "fault processing disable",
            Self::PageWalkSnoop => "page-walk snoop",
            Self::PageSnoop => "page snoop",
            Self::AccessedDirty => "accessed/dirty enable",
            Self::SupervisorRequest => "supervisor request enable",
            Self::WriteProtect => "write protect enable",
            Self::ExtendedAccessed => "extended accessed flag enable",
            Self::DirectorySize => "PASID directory size",
            Self::RequestPasid => "PASID of requests without PASID",
            Self::PageRequest => "page request enable",
        })
    }
}

/// Why table contents, or a wish about them, are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// A host address width outside 32 to 52 bits.
    HostAddressWidth,
    /// A table address that is not a multiple of 4096.
    Misaligned,
    /// A table address at or above the host address width.
    BeyondHost,
    /// A number of levels the format does not have.
    UnknownLevels,
    /// A word index outside its table.
    Index,
    /// The lender of memory says that nothing can be read there.
    Unreadable,
    /// A reserved bit, or one that hitless does not understand, is set.
    Reserved(Entry),
    /// The pointer in an entry lies at or above the host address width.
    PointerBeyondHost(Entry),
    /// A translation type that hitless does not preserve (reserved, nested, pass-through).
    TranslationType(Entry),
    /// An address width or paging mode that no format has.
    UnknownAddressWidth(Entry),
    /// An entry that must be present is not.
    NotPresent(Entry),
    /// An entry is present that no record speaks of.
    Unexpected(Entry, Bdf),
    /// An entry of a recorded device is missing.
    Missing(Entry, Bdf),
    /// A field of a recorded device's entry is not what the record says.
    Mismatch(Field, Bdf),
    /// A record was made for the other mode of the unit.
    WrongMode(Bdf),
    /// A page table refers to one of its own upper tables.
    Cycle,
    /// A page table has more tables than the caller allowed for.
    TooManyTables,
    /// An I/O virtual address that the page table has no room for.
    BeyondTable,
    /// The two entries of a swap differ in a field that cannot change without a faulting moment.
    Differs(Field),
    /// The two entries of a swap point to the same table: there is nothing to swap.
    SameTable,
    /// The swap needs a 128-bit compare-exchange, and the machine has none.
    NeedsCompareExchange128,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostAddressWidth => f.write_str("host address width outside 32 to 52 bits"),
            Self::Misaligned => f.write_str("table address is not a multiple of 4096"),
            Self::BeyondHost => f.write_str("table address beyond the host address width"),
            Self::UnknownLevels => f.write_str("number of levels that the format does not have"),
            Self::Index => f.write_str("word index outside its table"),
            Self::Unreadable => f.write_str("table memory cannot be read"),
            Self::Reserved(entry) => write!(f, "reserved or unknown bit set in {entry}"),
            Self::PointerBeyondHost(entry) => {
                write!(f, "pointer beyond the host address width in {entry}")
            }
            Self::TranslationType(entry) => {
                write!(f, "translation type that is not preserved in {entry}")
            }
            Self::UnknownAddressWidth(entry) => write!(f, "unknown address width in {entry}"),
            Self::NotPresent(entry) => write!(f, "{entry} is not present"),
            Self::Unexpected(entry, bdf) => {
                write!(f, "{entry} of {bdf} is present and not recorded")
            }
            Self::Missing(entry, bdf) => write!(f, "{entry} of {bdf} is recorded and not present"),
            Self::Mismatch(field, bdf) => write!(f, "{field} of {bdf} differs from its record"),
            Self::WrongMode(bdf) => write!(f, "record of {bdf} is for the unit's other mode"),
            Self::Cycle => f.write_str("page table refers to one of its own upper tables"),
            Self::TooManyTables => f.write_str("page table has more tables than allowed for"),
            Self::BeyondTable => f.write_str("address beyond what the page table can map"),
            Self::Differs(field) => {
                write!(
                    f,
                    "{field} differs and cannot change without a faulting moment"
                )
            }
            Self::SameTable => f.write_str("old and new entry point to the same table"),
            Self::NeedsCompareExchange128 => f.write_str("needs a 128-bit compare-exchange"),
        }
    }
}

impl core::error::Error for Flaw {}
