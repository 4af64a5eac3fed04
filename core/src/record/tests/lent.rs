// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Lent memory on the host, and the pages that cross a pretend jump.

extern crate std;

use core::mem::offset_of;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use super::super::checksum;
use super::super::lender::{Grow, Lender, Node, Shelf, Take};
use crate::abi::header::HeaderSer;
use crate::abi::list::{Page, PAGE_SIZE};

/// Pages that were handed over and have not been taken.
pub(super) type Handover = Rc<RefCell<BTreeMap<u64, Box<Page>>>>;

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMemory;

#[derive(Debug)]
pub(super) struct Lent {
    /// With their addresses.
    pub(super) pages: Vec<(u64, Box<Page>)>,
    nodes: Vec<Node>,
    /// Address of the next page that it makes.
    next: u64,
    handover: Handover,
    /// How many more times something may be added.
    left: Cell<usize>,
    looks: Cell<u64>,
}

impl Lent {
    /// The outgoing kernel's, with pages from an address on.
    pub(super) fn at(first: u64) -> Self {
        Self {
            pages: Vec::new(),
            nodes: Vec::new(),
            next: first,
            handover: Handover::default(),
            left: Cell::new(usize::MAX),
            looks: Cell::new(0),
        }
    }

    /// The incoming kernel's.
    pub(super) fn of(handover: &Handover) -> Self {
        let handover = Rc::clone(handover);
        Self {
            handover,
            ..Self::at(0)
        }
    }

    /// From now on so many things can be added.
    pub(super) fn limit(&self, left: usize) {
        self.left.set(left);
    }

    fn use_up(&self) -> Result<(), NoMemory> {
        let left = self.left.get().checked_sub(1).ok_or(NoMemory)?;
        self.left.set(left);
        Ok(())
    }

    /// The pages cross the jump.
    pub(super) fn jump(self, handover: &Handover) {
        handover.borrow_mut().extend(self.pages);
    }

    /// How often pages have been looked at since the last call.
    pub(super) fn looks(&self) -> u64 {
        self.looks.replace(0)
    }

    /// The bytes of all pages.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pages.iter().flat_map(|(_, page)| **page).collect()
    }
}

impl Lender for Lent {
    type Error = NoMemory;

    fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    fn page(&self, number: u32) -> Option<&Page> {
        self.looks.set(self.looks.get() + 1);
        Some(&*self.pages.get(number as usize)?.1)
    }

    fn page_mut(&mut self, number: u32) -> Option<&mut Page> {
        Some(&mut *self.pages.get_mut(number as usize)?.1)
    }

    fn phys(&self, number: u32) -> Option<u64> {
        Some(self.pages.get(number as usize)?.0)
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    fn add_node(&mut self) -> Result<(), NoMemory> {
        self.use_up()?;
        self.nodes.push(Node::EMPTY);
        Ok(())
    }
}

impl Grow for Lent {
    fn add_page(&mut self) -> Result<(), NoMemory> {
        self.use_up()?;
        self.pages.push((self.next, Box::new([0xa5; PAGE_SIZE])));
        self.next += 0x1000;
        Ok(())
    }
}

impl Take for Lent {
    fn take_page(&mut self, phys: u64) -> Result<bool, NoMemory> {
        self.use_up()?;
        let page = self.handover.borrow_mut().remove(&phys);
        Ok(match page {
            Some(page) => {
                self.pages.push((phys, page));
                true
            }
            None => false,
        })
    }
}

#[derive(Debug)]
pub(super) struct Shelved<T>(pub(super) Vec<T>);

impl<T> Shelf<T> for Shelved<T> {
    type Error = NoMemory;

    fn items(&self) -> &[T] {
        &self.0
    }

    fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    fn push(&mut self, item: T) -> Result<(), NoMemory> {
        self.0.push(item);
        Ok(())
    }
}

/// Makes the checksum of a page right again.
pub(super) fn seal(page: &mut Page) {
    let at = offset_of!(HeaderSer, checksum);
    let sum = checksum::of(page, at);
    page[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}
