// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What belongs to a VM and how it hangs together, by name. Whoever has a [`Plan`] knows that it makes sense.

use hitless_uapi::vfio::{Irq, MAX_VECTORS};

use crate::error::{Error, Kind};
use crate::mapping::Mapping;

/// Longest name of an object, in bytes.
pub const MAX_NAME: usize = 255;
/// Objects of one kind, and mappings of a HWPT, at most. Who reads a manifest does not know who has written it, and searches
/// among all of them for each.
pub(crate) const MAX_OBJECTS: usize = 4096;
pub(crate) const MAX_MAPPINGS: usize = 16384;

/// A HWPT of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hwpt {
    pub(crate) name: String,
    /// Which of the plan's iommufds it is in.
    pub(crate) iommufd: usize,
    /// Its token in that iommufd.
    pub(crate) token: u64,
    /// What it maps, if the VMM said so.
    pub(crate) mappings: Vec<Mapping>,
}

/// A device of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// Which of the plan's HWPTs it is attached to.
    pub(crate) hwpt: usize,
    /// Interrupts that were taken down for the update, and how many vectors.
    pub(crate) interrupts: Option<Interrupts>,
}

/// Interrupts that a device had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupts {
    /// Their kind.
    pub kind: Irq,
    /// How many vectors, counted from the first.
    pub vectors: usize,
}

/// Everything of a VM, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) memories: Vec<String>,
    pub(crate) iommufds: Vec<String>,
    pub(crate) hwpts: Vec<Hwpt>,
    pub(crate) devices: Vec<Device>,
}

impl Plan {
    pub(crate) fn add_memory(&mut self, name: &str) -> Result<(), Error> {
        self.check_new(Kind::Memory, name)?;
        self.memories.push(name.to_owned());
        Ok(())
    }

    pub(crate) fn add_iommufd(&mut self, name: &str) -> Result<(), Error> {
        self.check_new(Kind::Iommufd, name)?;
        self.iommufds.push(name.to_owned());
        Ok(())
    }

    pub(crate) fn add_hwpt(&mut self, name: &str, iommufd: &str, token: u64) -> Result<(), Error> {
        self.check_new(Kind::Hwpt, name)?;
        let iommufd = self.find(Kind::Iommufd, iommufd)?;
        self.check_token(name, iommufd, token)?;
        self.hwpts.push(Hwpt {
            name: name.to_owned(),
            iommufd,
            token,
            mappings: Vec::new(),
        });
        Ok(())
    }

    pub(crate) fn set_token(&mut self, hwpt: &str, token: u64) -> Result<(), Error> {
        let index = self.find(Kind::Hwpt, hwpt)?;
        self.check_token(hwpt, self.hwpts[index].iommufd, token)?;
        self.hwpts[index].token = token;
        Ok(())
    }

    /// No other HWPT of the iommufd has the token.
    fn check_token(&self, name: &str, iommufd: usize, token: u64) -> Result<(), Error> {
        let same =
            |hwpt: &&Hwpt| (hwpt.iommufd, hwpt.token) == (iommufd, token) && hwpt.name != name;
        match self.hwpts.iter().find(same) {
            None => Ok(()),
            Some(other) => Err(Error::SameHwpt {
                name: name.to_owned(),
                other: other.name.clone(),
            }),
        }
    }

    pub(crate) fn add_mapping(&mut self, hwpt: &str, mapping: Mapping) -> Result<(), Error> {
        let hwpt = self.find(Kind::Hwpt, hwpt)?;
        self.find(Kind::Memory, &mapping.memory)?;
        let mappings = &mut self.hwpts[hwpt].mappings;
        if mappings.len() >= MAX_MAPPINGS {
            return Err(Error::TooMany {
                what: "mappings of a HWPT",
                limit: MAX_MAPPINGS,
            });
        }
        // They are kept in the order of addresses, so that only two neighbours have to be looked at.
        let at = mappings.partition_point(|other| other.iova < mapping.iova);
        let end = mapping.end();
        let before = at.checked_sub(1).map(|before| &mappings[before]);
        let clear = before.is_none_or(|before| before.end() <= Some(mapping.iova))
            && mappings.get(at).is_none_or(|next| end <= Some(next.iova));
        if end.is_none() || !clear {
            return Err(Error::BadMapping {
                hwpt: self.hwpts[hwpt].name.clone(),
                mapping: Box::new(mapping),
            });
        }
        mappings.insert(at, mapping);
        Ok(())
    }

    pub(crate) fn add_device(&mut self, name: &str, hwpt: &str) -> Result<(), Error> {
        self.check_new(Kind::Device, name)?;
        let hwpt = self.find(Kind::Hwpt, hwpt)?;
        self.devices.push(Device {
            name: name.to_owned(),
            hwpt,
            interrupts: None,
        });
        Ok(())
    }

    /// Says which interrupts a device has; returns which device it is.
    pub(crate) fn set_interrupts(
        &mut self,
        device: &str,
        kind: Irq,
        vectors: usize,
    ) -> Result<usize, Error> {
        let index = self.find(Kind::Device, device)?;
        if vectors > MAX_VECTORS {
            return Err(Error::TooManyVectors {
                device: device.to_owned(),
                vectors,
            });
        }
        let interrupts = Interrupts { kind, vectors };
        self.devices[index].interrupts = (vectors > 0).then_some(interrupts);
        Ok(index)
    }

    /// Which of its kind has a name.
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Result<usize, Error> {
        let place = match kind {
            Kind::Memory => self.memories.iter().position(|other| other == name),
            Kind::Iommufd => self.iommufds.iter().position(|other| other == name),
            Kind::Hwpt => self.hwpts.iter().position(|other| other.name == name),
            Kind::Device => self.devices.iter().position(|other| other.name == name),
        };
        place.ok_or_else(|| Error::Unknown {
            kind,
            name: name.to_owned(),
        })
    }

    /// The iommufd of a device.
    pub(crate) fn iommufd_of(&self, device: &Device) -> usize {
        self.hwpts[device.hwpt].iommufd
    }

    fn check_new(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::BadName { kind, name });
        }
        if self.find(kind, &name).is_ok() {
            return Err(Error::Taken { kind, name });
        }
        let (what, count) = match kind {
            Kind::Memory => ("memories", self.memories.len()),
            Kind::Iommufd => ("iommufds", self.iommufds.len()),
            Kind::Hwpt => ("HWPTs", self.hwpts.len()),
            Kind::Device => ("devices", self.devices.len()),
        };
        if count >= MAX_OBJECTS {
            let limit = MAX_OBJECTS;
            return Err(Error::TooMany { what, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Rights, PAGE};

    #[test]
    fn there_is_an_end_of_it() {
        let mut plan = Plan::default();
        for number in 0..MAX_OBJECTS {
            plan.add_memory(&format!("memory-{number}")).expect("new");
        }
        let refused = plan.add_memory("one more").unwrap_err().to_string();
        assert!(refused.contains("no more than 4096 memories"), "{refused}");
        plan.add_iommufd("iommu").expect("another kind");
    }

    fn page(iova: u64, offset: u64) -> Mapping {
        Mapping {
            iova: iova * PAGE,
            length: PAGE,
            memory: "ram".into(),
            offset: offset * PAGE,
            rights: Rights::ReadWrite,
        }
    }

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.add_memory("ram").expect("new");
        plan.add_iommufd("iommu").expect("new");
        plan.add_hwpt("dma", "iommu", 1).expect("new");
        plan
    }

    #[test]
    fn mappings_may_touch_and_not_overlap() {
        let mut plan = plan();
        let long = Mapping {
            length: 3 * PAGE,
            ..page(10, 0)
        };
        plan.add_mapping("dma", long).expect("the first");
        for iova in [10, 11, 12] {
            let refused = plan.add_mapping("dma", page(iova, 0));
            assert!(matches!(refused, Err(Error::BadMapping { .. })), "{iova}");
        }
        let over = Mapping {
            length: 2 * PAGE,
            ..page(9, 0)
        };
        assert!(plan.add_mapping("dma", over).is_err());
        for iova in [9, 13] {
            plan.add_mapping("dma", page(iova, 0)).expect("beside it");
        }
        let order: Vec<_> = plan.hwpts[0]
            .mappings
            .iter()
            .map(|it| it.iova / PAGE)
            .collect();
        assert_eq!(order, [9, 10, 13]);
    }

    #[test]
    fn a_hwpt_has_one_name_and_its_token_nobody_else() {
        let mut plan = plan();
        let again = plan.add_hwpt("dna", "iommu", 1);
        assert!(matches!(again, Err(Error::SameHwpt { .. })));
        plan.add_hwpt("dna", "iommu", 2).expect("another one");
        assert!(matches!(
            plan.set_token("dna", 1),
            Err(Error::SameHwpt { .. })
        ));
        plan.set_token("dna", 2).expect("its own");
        plan.set_token("dna", 3).expect("a free one");
        assert!(matches!(plan.set_token("x", 3), Err(Error::Unknown { .. })));
    }

    #[test]
    fn a_name_has_a_length() {
        let mut plan = plan();
        for name in [String::new(), "x".repeat(MAX_NAME + 1)] {
            let refused = plan.add_memory(&name);
            assert!(matches!(refused, Err(Error::BadName { .. })));
        }
        plan.add_memory(&"x".repeat(MAX_NAME)).expect("the longest");
        // Another kind may have the same name.
        plan.add_iommufd("ram").expect("another kind");
    }
}
