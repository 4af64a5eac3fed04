// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The container of all families: entries over a chain of lent pages that grows, and an index of them.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{transmute_mut, transmute_ref, FromBytes, Immutable, IntoBytes};

use super::checksum;
use super::index::{node, node_mut, Index, Key, Node, Place};
use super::lender::{Grow, Lender, Take};
use crate::abi::header::HeaderSer;
use crate::abi::list::{
    EntrySer, Page, PageSer, ENTRIES, ENTRY_SIZE, KIND_FREE, KIND_OPTIONAL, PAGE_SIZE,
};
use crate::error::Error;
use crate::refusal::{self, Refusal};

/// Pages of a chain, at most: 4 GiB.
const MAX_PAGES: u32 = 1 << 20;

/// What the pages of a family say, and what the family makes of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: refusal::Family,
    pub(super) magic: [u8; 8],
    pub(super) version: u32,
    /// Features without which a record is misread. A bit means something else in each family.
    pub(super) known_required: u64,
    /// The last kind of entry that is known; the first is 1.
    pub(super) last_kind: u8,
}

/// Whether an address is that of a page.
pub(super) const fn is_page(address: u64) -> bool {
    address != 0 && address & 0xfff == 0
}

/// Whether every byte is 0.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Kind of index nodes that say what is wrong with the entry with key `a`.
const BLAMED: u8 = 0;

/// Entries and their index.
#[derive(Debug)]
pub(super) struct List<L> {
    lender: L,
    family: Family,
    index: Index,
    /// Entries that are not free.
    used: u32,
    /// All pages before this one are full.
    first_free: u32,
}

fn page_ser(page: &Page) -> &PageSer {
    transmute_ref!(page)
}

fn entries(count: u32) -> u32 {
    count.saturating_mul(u32::try_from(ENTRIES).unwrap_or(0))
}

/// Page and position of an entry.
fn place(key: u32) -> Option<(u32, usize)> {
    let number = key.checked_sub(1)?;
    let entries = u32::try_from(ENTRIES).ok()?;
    let position = usize::try_from(number.checked_rem(entries)?).ok()?;
    Some((number.checked_div(entries)?, position))
}

/// Writes `bytes` at `offset` and keeps the checksum right.
fn write(page: &mut Page, offset: usize, bytes: &[u8]) {
    let change = checksum::write(page, offset, bytes);
    let page: &mut PageSer = transmute_mut!(page);
    page.header.checksum = (page.header.checksum.get() ^ change).into();
}

impl<L: Lender> List<L> {
    pub(super) const fn lender(&self) -> &L {
        &self.lender
    }

    pub(super) fn into_lender(self) -> L {
        self.lender
    }

    /// Physical address of the first page.
    pub(super) fn phys(&self) -> u64 {
        self.lender.phys(0).unwrap_or(0)
    }

    /// Keys of all entries, free ones too.
    pub(super) fn keys(&self) -> core::ops::RangeInclusive<u32> {
        1..=entries(self.lender.pages())
    }

    fn any(&self, key: u32) -> Option<&EntrySer> {
        let (page, position) = place(key)?;
        page_ser(self.lender.page(page)?).entries.get(position)
    }

    /// Kind of the entry with a key; free if there is none.
    pub(super) fn kind(&self, key: u32) -> u8 {
        self.any(key).map_or(KIND_FREE, |entry| entry.kind)
    }

    /// The entry with a key, if it is of a kind.
    pub(super) fn entry<T: FromBytes>(&self, key: u32, kind: u8) -> Option<T> {
        let entry = self.any(key).filter(|entry| entry.kind == kind)?;
        T::read_from_bytes(entry.as_bytes()).ok()
    }

    fn change(&mut self, key: u32, bytes: &[u8], by: fn(u32) -> u32) {
        let Some((number, position)) = place(key) else {
            return;
        };
        let Some(page) = self.lender.page_mut(number) else {
            return;
        };
        let count = by(page_ser(page).header.count.get());
        let offset = position
            .saturating_mul(ENTRY_SIZE)
            .saturating_add(offset_of!(PageSer, entries));
        write(page, offset, bytes);
        let count = U32::new(count);
        write(page, offset_of!(HeaderSer, count), count.as_bytes());
        self.used = by(self.used);
    }

    /// Writes another entry in place of one.
    pub(super) fn set<T: IntoBytes + Immutable>(&mut self, key: u32, entry: &T) {
        self.change(key, entry.as_bytes(), |count| count);
    }

    /// Writes an entry where one is or may be. It is the only way in for a family that does not use [`Self::insert`].
    pub(super) fn put<T: IntoBytes + Immutable>(&mut self, key: u32, entry: &T) {
        let by: fn(u32) -> u32 = match self.kind(key) {
            KIND_FREE => |count| count.saturating_add(1),
            _ => |count| count,
        };
        self.change(key, entry.as_bytes(), by);
    }

    /// Makes an entry free. Its key can be another's from now on.
    pub(super) fn remove(&mut self, key: u32) {
        if self.kind(key) == KIND_FREE {
            return;
        }
        self.change(key, &[0; ENTRY_SIZE], |count| count.saturating_sub(1));
        if let Some((page, _)) = place(key) {
            self.first_free = self.first_free.min(page);
        }
    }

    /// Enters into a free entry, which [`Self::reserve`] has made sure is there, and says its key.
    pub(super) fn insert<T: IntoBytes + Immutable>(&mut self, entry: &T) -> Option<u32> {
        let key = self.free_key()?;
        self.change(key, entry.as_bytes(), |count| count.saturating_add(1));
        Some(key)
    }

    /// The entry that [`Self::insert`] enters into.
    pub(super) fn free_key(&mut self) -> Option<u32> {
        loop {
            let page = page_ser(self.lender.page(self.first_free)?);
            let mut free = (1..).zip(&page.entries);
            if let Some((position, _)) = free.find(|(_, entry)| entry.kind == KIND_FREE) {
                return entries(self.first_free).checked_add(position);
            }
            self.first_free = self.first_free.saturating_add(1);
        }
    }
}

/// Making.
impl<L: Grow> List<L> {
    /// Makes an empty record in a lender without pages.
    pub(super) fn create(lender: L, family: Family) -> Result<Self, Error<L::Error>> {
        let mut this = Self {
            lender,
            family,
            index: Index::new(),
            used: 0,
            first_free: 0,
        };
        this.grow()?;
        Ok(this)
    }

    fn grow(&mut self) -> Result<(), Error<L::Error>> {
        let full = Refusal::Full(self.family.name);
        let number = self.lender.pages();
        if number >= MAX_PAGES {
            return Err(full.into());
        }
        self.lender.add_page().map_err(Error::Lender)?;
        let first = self.lender.phys(0).ok_or(full)?;
        let phys = self.lender.phys(number).ok_or(full)?;
        let page = self.lender.page_mut(number).ok_or(full)?;
        page.fill(0);
        let ser: &mut PageSer = transmute_mut!(&mut *page);
        ser.header = HeaderSer {
            magic: self.family.magic,
            version: self.family.version.into(),
            checksum: 0.into(),
            required: 0.into(),
            optional: 0.into(),
            first: first.into(),
            next: 0.into(),
            number: number.into(),
            count: 0.into(),
            entry_size: u32::try_from(ENTRY_SIZE).unwrap_or(0).into(),
            reserved: 0.into(),
        };
        let sum = checksum::of(page, offset_of!(HeaderSer, checksum));
        let ser: &mut PageSer = transmute_mut!(page);
        ser.header.checksum = sum.into();
        // The chain changes only once nothing can fail any more.
        let previous = number.checked_sub(1);
        if let Some(previous) = previous.and_then(|previous| self.lender.page_mut(previous)) {
            let next = U64::new(phys);
            write(previous, offset_of!(HeaderSer, next), next.as_bytes());
        }
        Ok(())
    }

    /// Makes room, so that so many entries and index nodes can be added without anything that fails.
    pub(super) fn reserve(&mut self, count: u32, nodes: u32) -> Result<(), Error<L::Error>> {
        while entries(self.lender.pages()).saturating_sub(self.used) < count {
            self.grow()?;
        }
        self.reserve_nodes(nodes)
    }
}

/// Taking.
impl<L: Take> List<L> {
    /// Takes over a record that another kernel wrote, of which the first page is at `phys`. Every page is
    /// checked; what its entries say is the family's to check.
    pub(super) fn decode(lender: L, phys: u64, family: Family) -> Result<Self, Error<L::Error>> {
        let malformed = Refusal::Malformed(family.name);
        let mut this = Self {
            lender,
            family,
            index: Index::new(),
            used: 0,
            first_free: 0,
        };
        let mut next = phys;
        for number in 0..MAX_PAGES {
            if !is_page(next) {
                return Err(malformed.into());
            }
            if !this.lender.take_page(next).map_err(Error::Lender)? {
                return Err(Refusal::NotHandedOver(family.name).into());
            }
            let page = this.lender.page(number).ok_or(malformed)?;
            let header = family.check(page)?;
            if header.number.get() != number || header.first.get() != phys {
                return Err(Refusal::Contradictory(family.name).into());
            }
            next = header.next.get();
            this.used = this.used.saturating_add(header.count.get());
            if next == 0 {
                return Ok(this);
            }
        }
        Err(malformed.into())
    }
}

impl Family {
    /// Can a page be read here?
    fn check(&self, page: &Page) -> Result<HeaderSer, Refusal> {
        let PageSer { header, entries } = page_ser(page);
        if header.magic != self.magic {
            return Err(Refusal::NotARecord(self.name));
        }
        if header.checksum.get() != checksum::of(page, offset_of!(HeaderSer, checksum)) {
            return Err(Refusal::Damaged(self.name));
        }
        if header.version.get() != self.version {
            return Err(Refusal::UnknownVersion(self.name));
        }
        if header.required.get() & !self.known_required != 0 {
            return Err(Refusal::UnknownFeature(self.name));
        }
        let used = entries.iter().filter(|entry| entry.kind != KIND_FREE);
        let mut kinds = used.clone().map(|entry| entry.kind);
        if kinds.any(|kind| (self.last_kind.saturating_add(1)..KIND_OPTIONAL).contains(&kind)) {
            return Err(Refusal::UnknownFeature(self.name));
        }
        // A free entry is all 0: what a later version may write there is not passed over.
        let mut free = entries.iter().filter(|entry| entry.kind == KIND_FREE);
        let sound = usize::try_from(header.count.get()) == Ok(used.count())
            && usize::try_from(header.entry_size.get()) == Ok(ENTRY_SIZE)
            && header.reserved.get() == 0
            && free.all(|entry| is_zero(&entry.payload));
        match sound {
            true => Ok(*header),
            false => Err(Refusal::Malformed(self.name)),
        }
    }
}

/// The index.
impl<L: Lender> List<L> {
    /// Makes room, so that so many nodes can be added without anything that fails.
    pub(super) fn reserve_nodes(&mut self, nodes: u32) -> Result<(), Error<L::Error>> {
        while self.index.spare() < nodes {
            self.lender.add_node().map_err(Error::Lender)?;
            self.index.add_spare(self.lender.nodes_mut());
        }
        Ok(())
    }

    fn node(&self, place: Place) -> Option<&Node> {
        node(self.lender.nodes(), place)
    }

    fn node_at(&self, key: &Key) -> Option<&Node> {
        self.node(self.index.find(self.lender.nodes(), key))
    }

    /// One user more of what a key is about; the first enters it with a value.
    pub(super) fn join(&mut self, key: Key, value: u32) -> Result<(), Error<L::Error>> {
        let place = self.index.find(self.lender.nodes(), &key);
        if let Some(node) = node_mut(self.lender.nodes_mut(), place) {
            node.users = node.users.saturating_add(1);
            return Ok(());
        }
        self.reserve_nodes(1)?;
        self.index.insert(self.lender.nodes_mut(), key, value);
        Ok(())
    }

    /// Undo of [`Self::join`].
    pub(super) fn leave(&mut self, key: &Key) {
        let place = self.index.find(self.lender.nodes(), key);
        let Some(node) = node_mut(self.lender.nodes_mut(), place) else {
            return;
        };
        match node.users {
            0 | 1 => self.index.remove(self.lender.nodes_mut(), key),
            users => node.users = users.saturating_sub(1),
        }
    }

    /// The first node about something.
    pub(super) fn about(&self, kind: u8, a: u64, b: u64) -> Option<&Node> {
        let mut nodes = self.from(Key::new(kind, a, b, 0));
        nodes.next().filter(|node| node.key.is_about(kind, a, b))
    }

    /// The first node of a kind that is about `a`, whatever `b` is.
    pub(super) fn about_any(&self, kind: u8, a: u64) -> Option<&Node> {
        let mut nodes = self.from(Key::new(kind, a, 0, 0));
        nodes
            .next()
            .filter(|node| (node.key.kind, node.key.a) == (kind, a))
    }

    /// Users of what a key is about.
    pub(super) fn users(&self, key: &Key) -> u32 {
        self.node_at(key).map_or(0, |node| node.users)
    }

    /// The nodes from a key on, in order.
    pub(super) fn from(&self, key: Key) -> impl Iterator<Item = &Node> + Clone + '_ {
        let first = self.index.before(self.lender.nodes(), &key);
        let nodes = core::iter::successors(Some(first), |place| {
            Some(self.index.after(self.lender.nodes(), *place)).filter(|place| *place != 0)
        });
        nodes.skip(1).filter_map(|place| self.node(place))
    }

    /// The last node before a key.
    pub(super) fn before(&self, key: &Key) -> Option<&Node> {
        self.node(self.index.before(self.lender.nodes(), key))
    }

    /// Says what is wrong with what a key is about. What has been said first stays.
    pub(super) fn note(&mut self, key: &Key, refusal: Refusal) {
        let place = self.index.find(self.lender.nodes(), key);
        if let Some(node) = node_mut(self.lender.nodes_mut(), place) {
            node.note.get_or_insert(refusal);
        }
    }

    /// Value of a node.
    pub(super) fn value(&self, key: &Key) -> u32 {
        self.node_at(key).map_or(0, |node| node.value)
    }

    /// Changes the value of a node.
    pub(super) fn set_value(&mut self, key: &Key, value: u32) {
        let place = self.index.find(self.lender.nodes(), key);
        if let Some(node) = node_mut(self.lender.nodes_mut(), place) {
            node.value = value;
        }
    }

    /// What is wrong with what a key is about.
    pub(super) fn noted(&self, key: &Key) -> Option<Refusal> {
        self.node_at(key)?.note
    }

    /// Says what is wrong with an entry.
    pub(super) fn blame(&mut self, entry: u32, refusal: Refusal) -> Result<(), Error<L::Error>> {
        let key = Key::new(BLAMED, entry.into(), 0, 0);
        if self.users(&key) == 0 {
            self.join(key, 0)?;
        }
        self.note(&key, refusal);
        Ok(())
    }

    /// What is wrong with an entry.
    pub(super) fn blamed(&self, entry: u32) -> Option<Refusal> {
        self.noted(&Key::new(BLAMED, entry.into(), 0, 0))
    }

    /// An entry is gone, and with it what was wrong with it.
    pub(super) fn forgive(&mut self, entry: u32) {
        self.leave(&Key::new(BLAMED, entry.into(), 0, 0));
    }

    /// Notes `refusal` on all nodes of a kind that `conflict` with another: it is told two nodes in a
    /// row. `reach` says how far a node reaches; of those before a node the one that reaches furthest
    /// is looked at.
    pub(super) fn note_conflicts(
        &mut self,
        kind: u8,
        refusal: Refusal,
        reach: fn(&Node) -> u64,
        conflict: fn(&Node, &Node) -> bool,
    ) {
        let first = Key::new(kind, 0, 0, 0);
        let before = self.index.before(self.lender.nodes(), &first);
        let mut furthest = self.index.after(self.lender.nodes(), before);
        let mut place = furthest;
        loop {
            place = self.index.after(self.lender.nodes(), place);
            let pair = self.node(furthest).zip(self.node(place));
            let Some((earlier, later)) = pair.filter(|(_, later)| later.key.kind == kind) else {
                return;
            };
            let advance = reach(later) >= reach(earlier);
            if conflict(earlier, later) {
                for place in [furthest, place] {
                    if let Some(node) = node_mut(self.lender.nodes_mut(), place) {
                        node.note.get_or_insert(refusal);
                    }
                }
            }
            if advance {
                furthest = place;
            }
        }
    }
}

const _: () = assert!(PAGE_SIZE == size_of::<PageSer>());
