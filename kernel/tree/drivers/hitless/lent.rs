// SPDX-License-Identifier: GPL-2.0-only

//! Memory that records are lent: their pages, and room for the index of their entries.

use hitless_core::abi::list::Page;
use hitless_core::record::lender::{
    Grow,
    Lender,
    Node,
    Shelf,
    Take, //
};
use kernel::kho::{
    PreservedPage,
    RestoredPage, //
};
use kernel::prelude::*;

/// A page of a record, in either direction.
pub(crate) trait RecordPage: core::ops::DerefMut<Target = Page> {
    fn phys(&self) -> u64;
}

impl RecordPage for PreservedPage {
    fn phys(&self) -> u64 {
        PreservedPage::phys(self)
    }
}

impl RecordPage for RestoredPage {
    fn phys(&self) -> u64 {
        RestoredPage::phys(self)
    }
}

/// A page of a record that stays in this kernel: nobody asks for its physical address.
pub(crate) struct OwnPage(KBox<Page>);

impl core::ops::Deref for OwnPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0
    }
}

impl core::ops::DerefMut for OwnPage {
    fn deref_mut(&mut self) -> &mut Page {
        &mut self.0
    }
}

impl RecordPage for OwnPage {
    fn phys(&self) -> u64 {
        0
    }
}

/// Pages and index of a record.
///
/// What the previous kernel left is leaked when the value is dropped, so that nobody gets a page of which
/// it is not known what it really is; [`Lent::free`] gives the pages back.
pub(crate) struct Lent<P> {
    pages: KVVec<P>,
    nodes: KVVec<Node>,
}

/// Memory of a record that is given to the next kernel.
pub(crate) type Outgoing = Lent<PreservedPage>;
/// Memory of a record that stays in this kernel.
pub(crate) type Own = Lent<OwnPage>;
/// Memory of a record that came from the previous one.
pub(crate) type Incoming = Lent<RestoredPage>;

impl<P> Lent<P> {
    pub(crate) const fn new() -> Self {
        Self {
            pages: KVVec::new(),
            nodes: KVVec::new(),
        }
    }

    /// Appends a page.
    pub(crate) fn add(&mut self, page: P) -> Result {
        Ok(self.pages.push(page, GFP_KERNEL)?)
    }
}

fn index(number: u32) -> usize {
    // CAST: `usize` has 64 bits wherever there is kexec handover.
    number as usize
}

impl<P: RecordPage> Lender for Lent<P> {
    type Error = Error;

    fn pages(&self) -> u32 {
        // CAST: Core takes no more than a million pages.
        self.pages.len() as u32
    }

    fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get(index(number)).map(|page| &**page)
    }

    fn page_mut(&mut self, number: u32) -> Option<&mut Page> {
        self.pages.get_mut(index(number)).map(|page| &mut **page)
    }

    fn phys(&self, number: u32) -> Option<u64> {
        self.pages.get(index(number)).map(P::phys)
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    fn add_node(&mut self) -> Result {
        Ok(self.nodes.push(Node::EMPTY, GFP_KERNEL)?)
    }
}

impl Grow for Outgoing {
    fn add_page(&mut self) -> Result {
        self.pages.reserve(1, GFP_KERNEL)?;
        self.add(PreservedPage::new()?)
    }
}

impl Grow for Own {
    fn add_page(&mut self) -> Result {
        let page = KBox::init(pin_init::init_zeroed(), GFP_KERNEL)?;
        self.add(OwnPage(page))
    }
}

impl Take for Incoming {
    fn take_page(&mut self, phys: u64) -> Result<bool> {
        self.pages.reserve(1, GFP_KERNEL)?;
        match RestoredPage::take(phys) {
            Some(page) => {
                self.add(page)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

impl Incoming {
    /// Returns the pages to the allocator.
    pub(crate) fn free(self) {
        for page in self.pages {
            page.free();
        }
    }
}

/// Values in memory that grows.
pub(crate) struct Items<T>(KVVec<T>);

impl<T> Items<T> {
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }
}

impl<T> Shelf<T> for Items<T> {
    type Error = Error;

    fn items(&self) -> &[T] {
        &self.0
    }

    fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    fn push(&mut self, item: T) -> Result {
        Ok(self.0.push(item, GFP_KERNEL)?)
    }
}
