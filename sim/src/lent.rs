// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that records are made in, and pages that cross a pretend jump.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

use hitless_core::abi::list::{Page, PAGE_SIZE};
use hitless_core::record::lender::{Grow, Lender, Node, Shelf, Take};

/// Pages of records that were handed over and have not been taken.
pub type Handover = Rc<RefCell<BTreeMap<u64, Box<Page>>>>;

/// The memory of one record.
#[derive(Debug, Default)]
pub struct Lent {
    pages: Vec<(u64, Box<Page>)>,
    nodes: Vec<Node>,
    next: u64,
    handover: Handover,
}

impl Lent {
    /// The outgoing kernel's: pages from an address on.
    #[must_use]
    pub fn at(first: u64) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// The incoming kernel's.
    #[must_use]
    pub fn of(handover: &Handover) -> Self {
        Self {
            handover: Rc::clone(handover),
            ..Self::default()
        }
    }

    /// The pages cross the jump.
    pub fn jump(self, handover: &Handover) {
        handover.borrow_mut().extend(self.pages);
    }
}

fn index(number: u32) -> usize {
    number.try_into().expect("a page of this record")
}

impl Lender for Lent {
    type Error = Infallible;

    fn pages(&self) -> u32 {
        self.pages.len().try_into().expect("few pages")
    }

    fn page(&self, number: u32) -> Option<&Page> {
        Some(&*self.pages.get(index(number))?.1)
    }

    fn page_mut(&mut self, number: u32) -> Option<&mut Page> {
        Some(&mut *self.pages.get_mut(index(number))?.1)
    }

    fn phys(&self, number: u32) -> Option<u64> {
        Some(self.pages.get(index(number))?.0)
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    fn add_node(&mut self) -> Result<(), Infallible> {
        self.nodes.push(Node::EMPTY);
        Ok(())
    }
}

impl Grow for Lent {
    fn add_page(&mut self) -> Result<(), Infallible> {
        self.pages.push((self.next, Box::new([0; PAGE_SIZE])));
        self.next += 0x1000;
        Ok(())
    }
}

impl Take for Lent {
    fn take_page(&mut self, phys: u64) -> Result<bool, Infallible> {
        let page = self.handover.borrow_mut().remove(&phys);
        let taken = page.is_some();
        self.pages.extend(page.map(|page| (phys, page)));
        Ok(taken)
    }
}

/// A vector that is lent.
#[derive(Debug)]
pub struct Shelved<T>(Vec<T>);

impl<T> Default for Shelved<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Shelf<T> for Shelved<T> {
    type Error = Infallible;

    fn items(&self) -> &[T] {
        &self.0
    }

    fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    fn push(&mut self, item: T) -> Result<(), Infallible> {
        self.0.push(item);
        Ok(())
    }
}
