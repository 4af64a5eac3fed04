// SPDX-License-Identifier: GPL-2.0-only

//! The structures of the contract, to and from the values of core.

use hitless_core::model::{
    Attachment,
    DeviceAddress,
    Domain,
    DomainKey,
    EntryFacts,
    Format,
    Identity,
    Mode,
    Table,
    Unit, //
};
use kernel::bindings;

/// `None`: it is not a kind of hardware that is known.
pub(crate) fn unit(unit: &bindings::hitless_unit) -> Option<Unit> {
    let vtd = super::vtd::unit(unit)?;
    Some(Unit {
        register_base: unit.register_base,
        root_table: vtd.root_table,
        live_root: vtd.live_root,
        capability: vtd.capability,
        extended_capability: vtd.extended_capability,
        segment: unit.segment,
        mode: match vtd.scalable {
            0 => Mode::Legacy,
            _ => Mode::Scalable,
        },
    })
}

/// `None`: the format is not one of the contract.
pub(crate) fn table(table: &bindings::hitless_table) -> Option<Table> {
    Some(Table {
        top: table.top,
        format: match table.format {
            bindings::HITLESS_PT_VTDSS => Format::SecondStage,
            bindings::HITLESS_PT_X86_64 => Format::FirstStage,
            _ => return None,
        },
        levels: table.levels,
        incoherent: table.incoherent != 0,
        snoop: table.snoop != 0,
    })
}

fn table_to_c(table: &Table) -> bindings::hitless_table {
    bindings::hitless_table {
        top: table.top,
        format: match table.format {
            Format::SecondStage => bindings::HITLESS_PT_VTDSS,
            Format::FirstStage => bindings::HITLESS_PT_X86_64,
        },
        levels: table.levels,
        incoherent: table.incoherent.into(),
        snoop: table.snoop.into(),
    }
}

/// How a device is attached to a domain. What its entries say besides C does not know.
pub(crate) fn attachment(
    attachment: &bindings::hitless_attachment,
    domain: DomainKey,
) -> Attachment {
    let vtd = super::vtd::attachment(attachment);
    Attachment {
        address: DeviceAddress {
            segment: attachment.segment,
            bdf: attachment.bdf,
        },
        register_base: attachment.register_base,
        context_table: vtd.context_table,
        pasid_directory: vtd.pasid_directory,
        pasid_table: vtd.pasid_table,
        max_pasid: u32::try_from(vtd.max_pasid).unwrap_or(u32::MAX),
        domain_id: u16::try_from(attachment.domain_id).unwrap_or(0),
        domain,
        entry: EntryFacts::default(),
    }
}

pub(crate) fn attachment_to_c(
    attachment: &Attachment,
    domain: &Domain,
) -> bindings::hitless_attachment {
    bindings::hitless_attachment {
        register_base: attachment.register_base,
        domain: attachment.domain.get().into(),
        segment: attachment.address.segment,
        domain_id: attachment.domain_id.into(),
        bdf: attachment.address.bdf,
        table: table_to_c(&domain.table),
        ..bindings::hitless_attachment::default()
    }
}

pub(crate) fn identity(device: &bindings::hitless_vfio) -> Identity {
    Identity {
        vendor: device.vendor,
        device: device.device,
        subsystem_vendor: device.subsystem_vendor,
        subsystem_device: device.subsystem_device,
        class_revision: device.class_revision,
    }
}
