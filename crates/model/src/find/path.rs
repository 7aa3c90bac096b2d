//! Routes of one authority condition, by path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::literal::Literals;
use super::search::{FEW, Rank, Ranked, Search, Searched};
use super::shape::Bucket;
use super::trie::{Forward, Lowered, Text, Trie};
use crate::{PathMatch, Route};

/// Routes among which the authority has been decided.
#[derive(Debug)]
pub(super) enum Paths {
    Few(Box<[Rank]>),
    Many(Box<PathIndex>),
}

#[derive(Debug)]
pub(super) struct PathIndex {
    cased: Trie<Place>,
    /// Keys are in lower case.
    caseless: Trie<Place>,
    regexes: Literals<Bucket>,
    least: Rank,
}

/// Routes with one text.
#[derive(Debug)]
struct Place {
    exact: Bucket,
    prefix: Bucket,
}

impl Paths {
    /// `ranks` ascend.
    pub(super) fn new(ranks: Vec<Rank>, routes: &[Arc<Route>]) -> Self {
        if ranks.len() <= FEW {
            Self::Few(ranks.into())
        } else {
            Self::Many(Box::new(PathIndex::new(&ranks, routes)))
        }
    }
}

impl Ranked for Paths {
    fn least(&self) -> Rank {
        match self {
            Self::Few(ranks) => ranks.least(),
            Self::Many(index) => index.least,
        }
    }
}

impl Searched for Paths {
    fn search(&self, search: &mut Search<'_>) {
        match self {
            Self::Few(ranks) => search.try_each(ranks),
            Self::Many(index) => index.search(search),
        }
    }
}

impl PathIndex {
    fn new(ranks: &[Rank], routes: &[Arc<Route>]) -> Self {
        let mut cased = Texts::default();
        let mut caseless = Texts::default();
        let mut regexes = Vec::new();
        for &rank in ranks {
            match &routes[rank as usize].matches.path {
                PathMatch::Prefix {
                    text,
                    case_sensitive: true,
                } => cased.at(text).prefix.push(rank),
                PathMatch::Prefix {
                    text,
                    case_sensitive: false,
                } => {
                    caseless.at(&text.to_ascii_lowercase()).prefix.push(rank);
                }
                PathMatch::Exact {
                    text,
                    case_sensitive: true,
                } => cased.at(text).exact.push(rank),
                PathMatch::Exact {
                    text,
                    case_sensitive: false,
                } => {
                    caseless.at(&text.to_ascii_lowercase()).exact.push(rank);
                }
                PathMatch::Regex(pattern) => regexes.push((rank, pattern)),
            }
        }
        Self {
            cased: cased.index(routes),
            caseless: caseless.index(routes),
            regexes: Literals::new(regexes, &|ranks| Bucket::new(ranks, routes)),
            least: ranks.least(),
        }
    }

    fn search(&self, search: &mut Search<'_>) {
        let path = search.head.path;
        walk(&self.cased, Forward(path), search);
        walk(&self.caseless, Lowered(path), search);
        self.regexes.search(path, search);
    }
}

fn walk<T: Text>(trie: &Trie<Place>, path: T, search: &mut Search<'_>) {
    for found in trie.prefixes_of(path) {
        if found.least >= search.best {
            return;
        }
        if found.whole {
            search.consider(&found.value.exact);
        }
        search.consider(&found.value.prefix);
    }
}

impl Ranked for Place {
    fn least(&self) -> Rank {
        self.exact.least().min(self.prefix.least())
    }
}

/// Ranks by text, before they are indexed.
#[derive(Default)]
struct Texts(BTreeMap<Vec<u8>, PlaceRanks>);

#[derive(Default)]
struct PlaceRanks {
    exact: Vec<Rank>,
    prefix: Vec<Rank>,
}

impl Texts {
    fn at(&mut self, text: &str) -> &mut PlaceRanks {
        self.0.entry(text.as_bytes().to_vec()).or_default()
    }

    fn index(self, routes: &[Arc<Route>]) -> Trie<Place> {
        Trie::new(self.0.into_iter().map(|(text, ranks)| {
            let place = Place {
                exact: Bucket::new(ranks.exact, routes),
                prefix: Bucket::new(ranks.prefix, routes),
            };
            (text, place)
        }))
    }
}
