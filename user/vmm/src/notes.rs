// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel tells only once, kept where the next process finds it.
//!
//! The ids of bound devices and of restored HWPTs are in the answers of the calls that made them, and nowhere else. They
//! are written here as soon as they are known, each by one store, into a memfd of the session that is not sealed against
//! writing. 0 is nobody's id, and says that nothing is known. That a device was given up is here, too, so that the next
//! process does not start it again.

use hitless_uapi::iommufd::{DeviceId, HwptId, IoasId};
use hitless_uapi::{Mapping, Memfd};

use crate::mapping::PAGE;
use crate::plan::Plan;

/// Bytes of a device's place, and of a HWPT's.
const DEVICE: u64 = 8;
const HWPT: u64 = 16;
/// Words of a device.
const ID: u64 = 0;
const GIVEN_UP: u64 = 4;
/// What is noted there.
const DONE: u32 = 1;
const BEGUN: u32 = 2;
/// Words of a HWPT.
const RESTORED: u64 = 0;
const LEFT: u64 = 4;
const IOAS: u64 = 8;
const BUILT: u64 = 12;

/// Where a word of a device is.
const fn place(device: usize, word: u64) -> u64 {
    DEVICE * device as u64 + word
}

/// The notes of a session.
#[derive(Debug)]
pub(crate) struct Notes {
    memory: Mapping,
    /// Where the places of the HWPTs begin.
    hwpts: u64,
}

impl Notes {
    /// How long they are.
    fn length(plan: &Plan) -> u64 {
        let bytes = Self::first_hwpt(plan) + HWPT * plan.hwpts.len() as u64;
        bytes.max(1).next_multiple_of(PAGE)
    }

    fn first_hwpt(plan: &Plan) -> u64 {
        (DEVICE * plan.devices.len() as u64).next_multiple_of(HWPT)
    }

    /// Empty ones.
    pub(crate) fn create(plan: &Plan) -> hitless_uapi::Result<Memfd> {
        let memfd = Memfd::create("hitless-notes", Self::length(plan))?;
        memfd.seal()?;
        Ok(memfd)
    }

    /// Those of a session; none when the file is not as long as those of this plan are.
    pub(crate) fn open(memfd: &Memfd, plan: &Plan) -> hitless_uapi::Result<Option<Self>> {
        if memfd.length()? != Self::length(plan) {
            return Ok(None);
        }
        let memory = memfd.map()?;
        let hwpts = Self::first_hwpt(plan);
        Ok(Some(Self { memory, hwpts }))
    }

    fn get(&self, at: u64) -> Option<u32> {
        Some(self.memory.read_u32(at)).filter(|id| *id != 0)
    }

    fn hwpt(&self, index: usize, word: u64) -> u64 {
        self.hwpts + HWPT * index as u64 + word
    }

    /// The id of a bound device.
    pub(crate) fn device(&self, index: usize) -> Option<DeviceId> {
        self.get(place(index, ID)).map(DeviceId)
    }

    pub(crate) fn set_device(&self, index: usize, id: DeviceId) {
        self.memory.write_u32(place(index, ID), id.0);
    }

    /// Whether a device was given up.
    pub(crate) fn is_given_up(&self, index: usize) -> bool {
        self.get(place(index, GIVEN_UP)) == Some(DONE)
    }

    pub(crate) fn set_given_up(&self, index: usize) {
        self.memory.write_u32(place(index, GIVEN_UP), DONE);
    }

    /// Whether somebody was about to give a device up, and may have died over it.
    pub(crate) fn is_being_given_up(&self, index: usize) -> bool {
        self.get(place(index, GIVEN_UP)) == Some(BEGUN)
    }

    pub(crate) fn set_being_given_up(&self, index: usize, is: bool) {
        let word = if is { BEGUN } else { 0 };
        self.memory.write_u32(place(index, GIVEN_UP), word);
    }

    /// The id of a restored HWPT.
    pub(crate) fn restored(&self, index: usize) -> Option<HwptId> {
        self.get(self.hwpt(index, RESTORED)).map(HwptId)
    }

    pub(crate) fn set_restored(&self, index: usize, id: HwptId) {
        self.memory.write_u32(self.hwpt(index, RESTORED), id.0);
    }

    /// Whether a restored HWPT has been left and destroyed.
    pub(crate) fn is_left(&self, index: usize) -> bool {
        self.get(self.hwpt(index, LEFT)).is_some()
    }

    pub(crate) fn set_left(&self, index: usize) {
        self.memory.write_u32(self.hwpt(index, LEFT), 1);
    }

    /// The address space of the HWPT that takes its place.
    pub(crate) fn ioas(&self, index: usize) -> Option<IoasId> {
        self.get(self.hwpt(index, IOAS)).map(IoasId)
    }

    pub(crate) fn set_ioas(&self, index: usize, id: IoasId) {
        self.memory.write_u32(self.hwpt(index, IOAS), id.0);
    }

    /// The HWPT that takes its place. It has all mappings when it is here.
    pub(crate) fn built(&self, index: usize) -> Option<HwptId> {
        self.get(self.hwpt(index, BUILT)).map(HwptId)
    }

    pub(crate) fn set_built(&self, index: usize, id: HwptId) {
        self.memory.write_u32(self.hwpt(index, BUILT), id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.add_iommufd("iommu").expect("new");
        for (name, token) in [("a", 1), ("b", 2)] {
            plan.add_hwpt(name, "iommu", token).expect("new");
        }
        for name in ["x", "y", "z"] {
            plan.add_device(name, "a").expect("new");
        }
        plan
    }

    #[test]
    fn each_id_has_a_place_of_its_own_and_is_found_by_the_next_process() {
        let plan = plan();
        let memfd = Notes::create(&plan).expect("notes");
        let open = || {
            Notes::open(&memfd, &plan)
                .expect("read")
                .expect("of this plan")
        };
        let notes = open();
        assert_eq!(notes.device(0), None);
        for index in 0..3 {
            notes.set_device(index, DeviceId(10 + index as u32));
        }
        for index in 0..2 {
            let id = 20 + 10 * index as u32;
            notes.set_restored(index, HwptId(id));
            notes.set_ioas(index, IoasId(id + 1));
            notes.set_built(index, HwptId(id + 2));
        }
        notes.set_left(1);
        notes.set_given_up(2);
        drop(notes);

        let notes = open();
        let devices = [0, 1, 2].map(|index| notes.device(index));
        assert_eq!(devices, [10, 11, 12].map(|id| Some(DeviceId(id))));
        for index in 0..2 {
            let id = 20 + 10 * index as u32;
            assert_eq!(notes.restored(index), Some(HwptId(id)));
            assert_eq!(notes.ioas(index), Some(IoasId(id + 1)));
            assert_eq!(notes.built(index), Some(HwptId(id + 2)));
        }
        assert_eq!([notes.is_left(0), notes.is_left(1)], [false, true]);
        let given_up = [0, 1, 2].map(|index| notes.is_given_up(index));
        assert_eq!(given_up, [false, false, true]);
        notes.set_being_given_up(1, true);
        let states = |notes: &Notes| (notes.is_being_given_up(1), notes.is_given_up(1));
        assert_eq!(states(&notes), (true, false));
        notes.set_given_up(1);
        assert_eq!(states(&notes), (false, true));
        notes.set_being_given_up(1, false);
        assert_eq!(states(&notes), (false, false));
        notes.set_ioas(0, IoasId(0));
        assert_eq!(notes.ioas(0), None);
    }

    #[test]
    fn those_of_another_plan_are_refused() {
        let short = Notes::create(&plan()).expect("notes");
        let mut long = plan();
        for number in 0..2000 {
            long.add_device(&number.to_string(), "b").expect("new");
        }
        assert!(Notes::open(&short, &long).expect("read").is_none());
        let fitting = Notes::create(&long).expect("notes");
        let notes = Notes::open(&fitting, &long).expect("read").expect("fits");
        // The last place is within.
        notes.set_built(1, HwptId(5));
        assert_eq!(notes.built(1), Some(HwptId(5)));
    }
}
