//! A search under way: the request, and the best route found so far.

use std::sync::Arc;

use super::trie::{Text, Trie};
use crate::{RequestHead, Route};

/// Position of a route in match order; the lowest wins.
pub(super) type Rank = u32;

/// Higher than any rank.
pub(super) const NEVER: Rank = Rank::MAX;

/// Up to so many routes are tried one after the other; an index over fewer costs more than it saves.
pub(super) const FEW: usize = 4;

/// A part of the index that knows its best route, so that a search can pass it by.
pub(super) trait Ranked {
    /// The lowest rank in it; [`NEVER`] where it is empty.
    fn least(&self) -> Rank;
}

/// A part of the index that can be searched.
pub(super) trait Searched: Ranked {
    /// Lowers `search.best` to the first route in this part that takes the request, if that is lower.
    fn search(&self, search: &mut Search<'_>);
}

/// A search under way.
pub(super) struct Search<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) draw: u8,
    pub(super) routes: &'a [Arc<Route>],
    /// The best so far, or [`NEVER`].
    pub(super) best: Rank,
}

impl Search<'_> {
    /// Searches `part` unless it can hold nothing better.
    pub(super) fn consider(&mut self, part: &impl Searched) {
        if part.least() < self.best {
            part.search(self);
        }
    }

    /// Walks up the keys that `text` begins with, longest first.
    pub(super) fn walk<V: Searched, T: Text>(&mut self, trie: &Trie<V>, text: T) {
        for found in trie.prefixes_of(text) {
            if found.least >= self.best {
                return;
            }
            self.consider(found.value);
        }
    }

    /// Tries routes, given in ascending order, until one takes the request.
    pub(super) fn try_each(&mut self, ranks: &[Rank]) {
        for &rank in ranks {
            if rank >= self.best {
                return;
            }
            let route = &self.routes[rank as usize];
            if route.matches.accepts(self.head) && route.target(self.draw).is_some() {
                self.best = rank;
            }
        }
    }
}

/// Routes in ascending order.
impl Ranked for [Rank] {
    fn least(&self) -> Rank {
        self.first().copied().unwrap_or(NEVER)
    }
}
