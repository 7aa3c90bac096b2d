//! A map from byte strings that answers: which keys does this text begin with?
//!
//! Edges carry whole stretches of bytes, so a walk takes at most as many steps as the text has bytes,
//! however many keys there are. Nodes stand in breadth-first order in one array: the children of a
//! node are neighbours, and their first bytes are searched without touching them. Each value knows the
//! value above it, so that keys are visited longest first without remembering the way down.

use std::collections::VecDeque;
use std::ops::Range;

use super::search::{NEVER, Rank, Ranked};

/// The text that is looked up, in the order and the letter case of the keys.
pub(super) trait Text: Copy {
    fn len(self) -> usize;
    fn at(self, index: usize) -> u8;
}

/// From the front, as it is.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a>(pub(super) &'a str);

/// From the back.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a>(pub(super) &'a str);

/// From the front, ASCII letters lowered.
#[derive(Clone, Copy)]
pub(super) struct Lowered<'a>(pub(super) &'a str);

impl Text for Forward<'_> {
    fn len(self) -> usize {
        self.0.len()
    }
    fn at(self, index: usize) -> u8 {
        self.0.as_bytes()[index]
    }
}

impl Text for Backward<'_> {
    fn len(self) -> usize {
        self.0.len()
    }
    fn at(self, index: usize) -> u8 {
        self.0.as_bytes()[self.0.len() - 1 - index]
    }
}

impl Text for Lowered<'_> {
    fn len(self) -> usize {
        self.0.len()
    }
    fn at(self, index: usize) -> u8 {
        self.0.as_bytes()[index].to_ascii_lowercase()
    }
}

#[derive(Debug)]
pub(super) struct Trie<V> {
    nodes: Box<[Node]>,
    /// First byte of the label of each node; of the root, whatever.
    firsts: Box<[u8]>,
    labels: Box<[u8]>,
    slots: Box<[Slot<V>]>,
    least: Rank,
}

#[derive(Debug)]
struct Node {
    label: Range<u32>,
    children: Range<u32>,
    slot: Option<u32>,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    key_length: usize,
    /// The slot of the longest key that is a proper prefix of this one.
    above: Option<u32>,
    /// Lowest rank of this value and all above it.
    least: Rank,
}

/// A value whose key the text begins with.
pub(super) struct Found<'t, V> {
    pub(super) value: &'t V,
    /// The key is the whole text.
    pub(super) whole: bool,
    /// Lowest rank of this value and of all with shorter keys that follow.
    pub(super) least: Rank,
}

impl<V> Trie<V> {
    /// The values whose keys `text` begins with, longest key first.
    pub(super) fn prefixes_of<T: Text>(&self, text: T) -> impl Iterator<Item = Found<'_, V>> {
        let length = text.len();
        let mut next = self.deepest(text);
        std::iter::from_fn(move || {
            let slot = &self.slots[next? as usize];
            next = slot.above;
            Some(Found {
                value: &slot.value,
                whole: slot.key_length == length,
                least: slot.least,
            })
        })
    }

    fn deepest<T: Text>(&self, text: T) -> Option<u32> {
        let mut node = self.nodes.first()?;
        let mut consumed = 0;
        let mut deepest = None;
        loop {
            for &byte in &self.labels[node.label.start as usize..node.label.end as usize] {
                if consumed == text.len() || text.at(consumed) != byte {
                    return deepest;
                }
                consumed += 1;
            }
            deepest = node.slot.or(deepest);
            if consumed == text.len() {
                return deepest;
            }
            let children = node.children.start as usize..node.children.end as usize;
            let Ok(child) = self.firsts[children.clone()].binary_search(&text.at(consumed)) else {
                return deepest;
            };
            node = &self.nodes[children.start + child];
        }
    }
}

impl<V: Ranked> Trie<V> {
    /// A trie of `entries`, whose keys differ from each other.
    pub(super) fn new(entries: impl IntoIterator<Item = (Vec<u8>, V)>) -> Self {
        let mut entries: Vec<(Vec<u8>, V)> = entries.into_iter().collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let mut builder = Builder {
            keys: &keys,
            values: values.into_iter().map(Some).collect(),
            ..Builder::default()
        };
        builder.build();
        Self {
            nodes: builder.nodes.into(),
            firsts: builder.firsts.into(),
            labels: builder.labels.into(),
            least: builder.slots.iter().map(|slot| slot.least).min().unwrap_or(NEVER),
            slots: builder.slots.into(),
        }
    }
}

impl<V> Ranked for Trie<V> {
    fn least(&self) -> Rank {
        self.least
    }
}

/// Keys that share a node still to be made: all agree up to `from`.
struct Pending {
    keys: Range<usize>,
    from: usize,
    above: Option<u32>,
}

struct Builder<'k, V> {
    keys: &'k [Vec<u8>],
    values: Vec<Option<V>>,
    nodes: Vec<Node>,
    firsts: Vec<u8>,
    labels: Vec<u8>,
    slots: Vec<Slot<V>>,
    pending: VecDeque<Pending>,
}

impl<V> Default for Builder<'_, V> {
    fn default() -> Self {
        Self {
            keys: &[],
            values: Vec::new(),
            nodes: Vec::new(),
            firsts: Vec::new(),
            labels: Vec::new(),
            slots: Vec::new(),
            pending: VecDeque::new(),
        }
    }
}

impl<V: Ranked> Builder<'_, V> {
    fn build(&mut self) {
        if !self.keys.is_empty() {
            self.pending.push_back(Pending {
                keys: 0..self.keys.len(),
                from: 0,
                above: None,
            });
        }
        while let Some(pending) = self.pending.pop_front() {
            self.node(pending);
        }
    }

    /// Makes one node and leaves its children to be made. As nodes are made in the order in which they
    /// were left, the children of this one will follow all that is waiting now.
    fn node(
        &mut self,
        Pending {
            mut keys,
            from,
            mut above,
        }: Pending,
    ) {
        let first = &self.keys[keys.start];
        let to = from + common_length(&first[from..], &self.keys[keys.end - 1][from..]);
        let label_start = self.labels.len();
        self.labels.extend_from_slice(&first[from..to]);
        self.firsts.push(first.get(from).copied().unwrap_or_default());

        let mut slot = None;
        if first.len() == to {
            slot = self.values[keys.start]
                .take()
                .map(|value| self.slot(value, to, above));
            above = slot;
            keys.start += 1;
        }
        let first_child = self.nodes.len() + 1 + self.pending.len();
        while !keys.is_empty() {
            let rest = &self.keys[keys.clone()];
            let same = rest.partition_point(|key| key[to] <= rest[0][to]);
            self.pending.push_back(Pending {
                keys: keys.start..keys.start + same,
                from: to,
                above,
            });
            keys.start += same;
        }
        let end = self.nodes.len() + 1 + self.pending.len();
        self.nodes.push(Node {
            label: narrow(label_start)..narrow(self.labels.len()),
            children: narrow(first_child)..narrow(end),
            slot,
        });
    }

    fn slot(&mut self, value: V, key_length: usize, above: Option<u32>) -> u32 {
        let upward = above.map_or(NEVER, |slot| self.slots[slot as usize].least);
        let least = value.least().min(upward);
        self.slots.push(Slot {
            value,
            key_length,
            above,
            least,
        });
        narrow(self.slots.len() - 1)
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Positions are kept in 32 bits: no configuration comes near 4 GiB of text.
fn narrow(position: usize) -> u32 {
    position as u32
}
