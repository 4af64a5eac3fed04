// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Taking over a record that another kernel wrote: whoever contradicts somebody is blamed, and nobody else.

use super::nodes::{end, DEVICE, FOUND, HWPT, ID, ID_OF, OWNER, PAGE, UNIT};
use super::{check_attachment, Iommu, ALIASED, CONTRADICTORY, DUPLICATE, FAMILY};
use crate::abi::iommu::{AttachmentSer, UnitSer, KIND_ATTACHMENT, KIND_DOMAIN, KIND_UNIT};
use crate::error::Error;
use crate::record::attachment::{Attachment, DomainKey};
use crate::record::hardware::Kinds;
use crate::record::index::{Key, Node};
use crate::record::lender::Take;
use crate::record::list::List;

impl<L: Take> Iommu<L> {
    /// Takes over a record that another kernel wrote.
    pub(in crate::record) fn decode(
        lender: L,
        phys: u64,
        kinds: Kinds,
    ) -> Result<Self, Error<L::Error>> {
        let mut this = Self {
            list: List::decode(lender, phys, FAMILY)?,
            kinds,
        };
        for key in this.list.keys() {
            match this.list.kind(key) {
                KIND_UNIT => this.take_unit(key)?,
                KIND_DOMAIN => this.take_domain(key)?,
                _ => {}
            }
        }
        for key in this.list.keys() {
            this.take_attachment(key)?;
        }
        this.note_all();
        Ok(this)
    }

    fn take_unit(&mut self, key: u32) -> Result<(), Error<L::Error>> {
        let ser: Option<UnitSer> = self.list.entry(key, KIND_UNIT);
        if let Some(ser) = ser {
            self.list
                .join(Key::new(UNIT, ser.base.get(), 0, key), FOUND)?;
        }
        let checked = self.decode_unit(key).and_then(|unit| {
            let hardware = self.hardware(unit.hardware)?;
            hardware.check_unit(&unit)
        });
        checked.or_else(|refusal| self.list.blame(key, refusal))
    }

    fn take_domain(&mut self, key: u32) -> Result<(), Error<L::Error>> {
        let Some(domain) = DomainKey::new(key) else {
            return Ok(());
        };
        match self.decode_domain(domain) {
            Ok(decoded) => self.join_domain(domain, &decoded),
            Err(refusal) => self.list.blame(key, refusal),
        }
    }

    fn take_attachment(&mut self, key: u32) -> Result<(), Error<L::Error>> {
        let ser: Option<AttachmentSer> = self.list.entry(key, KIND_ATTACHMENT);
        let Some(ser) = ser else {
            return Ok(());
        };
        let address = Attachment::address(&ser);
        if let Some(other) = self.attachment_key(address) {
            self.list.blame(other, DUPLICATE)?;
            self.list.blame(key, DUPLICATE)?;
        }
        self.list
            .join(Key::new(DEVICE, address.number(), 0, key), 0)?;
        let checked = match self.joined(key) {
            Ok(joined) => {
                self.join(&joined)?;
                let domain = self.decode_domain(joined.attachment.domain);
                domain.and_then(|domain| check_attachment(&joined, &domain.table))
            }
            Err(refusal) => Err(refusal),
        };
        checked.or_else(|refusal| self.list.blame(key, refusal))
    }

    /// Notes who says something else of the same thing than somebody else.
    fn note_all(&mut self) {
        let names = |one: &Node, other: &Node| (one.key.a, one.key.b) == (other.key.a, other.key.b);
        for (kind, refusal) in [
            (UNIT, DUPLICATE),
            (HWPT, DUPLICATE),
            (ID, CONTRADICTORY),
            (ID_OF, CONTRADICTORY),
        ] {
            self.list.note_conflicts(kind, refusal, |_| 0, names);
        }
        let owner = |one: &Node, other: &Node| one.key.a == other.key.a;
        self.list.note_conflicts(OWNER, CONTRADICTORY, |_| 0, owner);
        let overlap = |one: &Node, other: &Node| other.key.a < end(one);
        self.list.note_conflicts(PAGE, ALIASED, end, overlap);
    }
}
