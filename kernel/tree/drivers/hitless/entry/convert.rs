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
use hitless_core::rules::domain_id::IdUse;
use kernel::bindings;

pub(super) fn unit(unit: &bindings::hitless_unit) -> Unit {
    Unit {
        register_base: unit.register_base,
        root_table: unit.root_table,
        live_root: unit.live_root,
        capability: unit.capability,
        extended_capability: unit.extended_capability,
        segment: unit.segment,
        mode: match unit.scalable {
            0 => Mode::Legacy,
            _ => Mode::Scalable,
        },
    }
}

/// `None`: the format is not one of the contract.
pub(super) fn table(table: &bindings::hitless_table) -> Option<Table> {
    Some(Table {
        top: table.top,
        format: match table.format {
            bindings::HITLESS_TABLE_SECOND_STAGE => Format::SecondStage,
            bindings::HITLESS_TABLE_FIRST_STAGE => Format::FirstStage,
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
            Format::SecondStage => bindings::HITLESS_TABLE_SECOND_STAGE,
            Format::FirstStage => bindings::HITLESS_TABLE_FIRST_STAGE,
        },
        levels: table.levels,
        incoherent: table.incoherent.into(),
        snoop: table.snoop.into(),
    }
}

/// An outgoing attachment: the caller fills in domain and entry facts, which C does not know.
pub(super) fn attachment(
    attachment: &bindings::hitless_attachment,
    unknown: DomainKey,
) -> Attachment {
    Attachment {
        address: DeviceAddress {
            segment: attachment.segment,
            bdf: attachment.bdf,
        },
        register_base: attachment.register_base,
        context_table: attachment.context_table,
        pasid_directory: attachment.pasid_directory,
        pasid_table: attachment.pasid_table,
        max_pasid: attachment.max_pasid,
        domain_id: attachment.domain_id,
        domain: unknown,
        entry: EntryFacts::default(),
    }
}

pub(super) fn attachment_to_c(
    attachment: &Attachment,
    domain: &Domain,
) -> bindings::hitless_attachment {
    bindings::hitless_attachment {
        register_base: attachment.register_base,
        context_table: attachment.context_table,
        pasid_directory: attachment.pasid_directory,
        pasid_table: attachment.pasid_table,
        domain: attachment.domain.get().into(),
        segment: attachment.address.segment,
        max_pasid: attachment.max_pasid,
        bdf: attachment.address.bdf,
        domain_id: attachment.domain_id,
        reserved: 0,
        table: table_to_c(&domain.table),
    }
}

pub(super) fn id_use(id_use: &bindings::hitless_id_use) -> IdUse {
    IdUse {
        users: id_use.users,
        has_own: id_use.has_own != 0,
    }
}

pub(super) fn identity(device: &bindings::hitless_vfio) -> Identity {
    Identity {
        vendor: device.vendor,
        device: device.device,
        subsystem_vendor: device.subsystem_vendor,
        subsystem_device: device.subsystem_device,
        class_revision: device.class_revision,
    }
}
