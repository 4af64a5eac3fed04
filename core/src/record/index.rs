// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An ordered index in lent memory: a skip list.
//!
//! A node has links to later nodes on several levels, a quarter of the nodes of a level being on the
//! next. A look-up goes along the highest level first; the number of steps grows with the logarithm of
//! the number of nodes. Removal takes a node out and keeps it for the next insertion.

use crate::refusal::Refusal;

/// Levels: enough for a million nodes before look-ups become slower.
const LEVELS: usize = 10;

/// What a node is found by, in the order in which nodes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// What the rest means: the family's business.
    pub(super) kind: u8,
    pub(super) a: u64,
    pub(super) b: u64,
    /// Who says so: the key of an entry. Two that say the same are two nodes.
    pub(super) c: u32,
}

impl Key {
    pub(super) const fn new(kind: u8, a: u64, b: u64, c: u32) -> Self {
        Self { kind, a, b, c }
    }

    /// Whether both are about the same, whoever says it.
    pub(super) fn is_about(&self, kind: u8, a: u64, b: u64) -> bool {
        (self.kind, self.a, self.b) == (kind, a, b)
    }
}

/// A node of an index, opaque to the lender.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub(super) key: Key,
    /// Meaning as the kind has it.
    pub(super) value: u32,
    /// How many have joined.
    pub(super) users: u32,
    /// What is wrong with what the key is about.
    pub(super) note: Option<Refusal>,
    /// Numbers of the next nodes, counted from 1; 0 at the end.
    next: [u32; LEVELS],
}

impl Node {
    /// A node that is not in use.
    pub const EMPTY: Self = Self {
        key: Key::new(0, 0, 0, 0),
        value: 0,
        users: 0,
        note: None,
        next: [0; LEVELS],
    };
}

/// Where a node is, counted from 1; 0 is the place before the first.
pub(super) type Place = u32;

/// The index apart from its nodes.
#[derive(Clone, Debug)]
pub(super) struct Index {
    heads: [Place; LEVELS],
    /// First of the nodes that are not in use.
    free: Place,
    /// How many those are.
    spare: u32,
    random: u32,
}

pub(super) fn node(nodes: &[Node], place: Place) -> Option<&Node> {
    nodes.get(usize::try_from(place.checked_sub(1)?).ok()?)
}

pub(super) fn node_mut(nodes: &mut [Node], place: Place) -> Option<&mut Node> {
    nodes.get_mut(usize::try_from(place.checked_sub(1)?).ok()?)
}

impl Index {
    pub(super) const fn new() -> Self {
        Self {
            heads: [0; LEVELS],
            free: 0,
            spare: 0,
            random: 1,
        }
    }

    /// Nodes that can be inserted without memory being lent.
    pub(super) const fn spare(&self) -> u32 {
        self.spare
    }

    /// The last of `nodes` is new.
    pub(super) fn add_spare(&mut self, nodes: &mut [Node]) {
        let place = Place::try_from(nodes.len()).unwrap_or(0);
        self.give_back(nodes, place);
    }

    fn give_back(&mut self, nodes: &mut [Node], place: Place) {
        let free = self.free;
        if let Some(node) = node_mut(nodes, place) {
            *node = Node::EMPTY;
            let [first, ..] = &mut node.next;
            *first = free;
            self.free = place;
            self.spare = self.spare.saturating_add(1);
        }
    }

    fn link(&self, nodes: &[Node], place: Place, level: usize) -> Place {
        let links = match place {
            0 => Some(&self.heads),
            place => node(nodes, place).map(|node| &node.next),
        };
        let link = links.and_then(|links| links.get(level));
        link.copied().unwrap_or(0)
    }

    fn set_link(&mut self, nodes: &mut [Node], place: Place, level: usize, to: Place) {
        let links = match place {
            0 => Some(&mut self.heads),
            place => node_mut(nodes, place).map(|node| &mut node.next),
        };
        if let Some(link) = links.and_then(|links| links.get_mut(level)) {
            *link = to;
        }
    }

    /// On each level the place of the last node before `key`.
    fn path(&self, nodes: &[Node], key: &Key) -> [Place; LEVELS] {
        let mut path = [0; LEVELS];
        let mut place = 0;
        for (level, last) in path.iter_mut().enumerate().rev() {
            loop {
                let next = self.link(nodes, place, level);
                #[cfg(test)]
                steps::count();
                match node(nodes, next) {
                    Some(node) if node.key < *key => place = next,
                    _ => break,
                }
            }
            *last = place;
        }
        path
    }

    /// The place of the last node before `key`.
    pub(super) fn before(&self, nodes: &[Node], key: &Key) -> Place {
        let [place, ..] = self.path(nodes, key);
        place
    }

    /// The place after one; 0 at the end.
    pub(super) fn after(&self, nodes: &[Node], place: Place) -> Place {
        self.link(nodes, place, 0)
    }

    /// The place of `key`; 0 if it is not there.
    pub(super) fn find(&self, nodes: &[Node], key: &Key) -> Place {
        let place = self.after(nodes, self.before(nodes, key));
        let found = node(nodes, place).is_some_and(|node| node.key == *key);
        if found {
            place
        } else {
            0
        }
    }

    /// Inserts a node, which is not there yet. Without a spare node nothing happens.
    pub(super) fn insert(&mut self, nodes: &mut [Node], key: Key, value: u32) {
        let place = self.free;
        let path = self.path(nodes, &key);
        let Some(node) = node_mut(nodes, place) else {
            return;
        };
        let [free, ..] = node.next;
        *node = Node {
            key,
            value,
            users: 1,
            ..Node::EMPTY
        };
        self.free = free;
        self.spare = self.spare.saturating_sub(1);
        let height = self.height();
        for (level, before) in path.iter().enumerate().take(height) {
            let next = self.link(nodes, *before, level);
            self.set_link(nodes, place, level, next);
            self.set_link(nodes, *before, level, place);
        }
    }

    /// Removes a node, if it is there.
    pub(super) fn remove(&mut self, nodes: &mut [Node], key: &Key) {
        let place = self.find(nodes, key);
        if place == 0 {
            return;
        }
        let path = self.path(nodes, key);
        for (level, before) in path.iter().enumerate() {
            if self.link(nodes, *before, level) == place {
                let next = self.link(nodes, place, level);
                self.set_link(nodes, *before, level, next);
            }
        }
        self.give_back(nodes, place);
    }

    /// On how many levels a new node is: one more with each chance of one in four.
    fn height(&mut self) -> usize {
        // A linear congruential generator, of which the high bits are good.
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let chances = self.random.leading_zeros() / 2;
        usize::try_from(chances)
            .unwrap_or(0)
            .saturating_add(1)
            .min(LEVELS)
    }
}

/// What look-ups cost, for tests.
#[cfg(test)]
pub(super) mod steps {
    extern crate std;

    use std::cell::Cell;

    std::thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        STEPS.with(|steps| steps.set(steps.get() + 1));
    }

    /// Steps since the last call.
    pub(crate) fn take() -> u64 {
        STEPS.with(|steps| steps.replace(0))
    }
}
