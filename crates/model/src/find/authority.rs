//! All routes of a table, by the condition on the authority: the first step of a search.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::hash::{Fnv, Table};
use super::literal::Literals;
use super::path::Paths;
use super::search::{FEW, NEVER, Rank, Ranked, Search, Searched};
use super::trie::{Backward, Forward, Trie};
use crate::{AuthorityMatch, Pattern, Route};

/// All routes of a table.
#[derive(Debug)]
pub(super) enum Authorities {
    Few(Box<[Rank]>),
    Many(Box<AuthorityIndex>),
}

#[derive(Debug)]
pub(super) struct AuthorityIndex {
    /// By hash.
    exact: Table<u64, Paths>,
    /// Keys are spelt backwards.
    suffix: Trie<Paths>,
    prefix: Trie<Paths>,
    any: Paths,
    regex: Literals<Regexes>,
    least: Rank,
}

/// The routes of each expression that certain literals may begin; best first. The first route of each
/// lends its expression: a copy would have scratch space of its own.
#[derive(Debug)]
struct Regexes(Vec<Arc<Paths>>);

impl Authorities {
    pub(super) fn new(routes: &[Arc<Route>]) -> Self {
        let ranks = (0..).zip(routes).map(|(rank, _)| rank);
        if routes.len() <= FEW {
            Self::Few(ranks.collect())
        } else {
            Self::Many(Box::new(AuthorityIndex::new(ranks, routes)))
        }
    }
}

impl Ranked for Authorities {
    fn least(&self) -> Rank {
        match self {
            Self::Few(ranks) => ranks.least(),
            Self::Many(index) => index.least,
        }
    }
}

impl Searched for Authorities {
    fn search(&self, search: &mut Search<'_>) {
        match self {
            Self::Few(ranks) => search.try_each(ranks),
            Self::Many(index) => index.search(search),
        }
    }
}

/// Ranks by condition, before they are indexed.
#[derive(Default)]
struct Groups<'r> {
    exact: Table<u64, Vec<Rank>>,
    suffix: BTreeMap<Vec<u8>, Vec<Rank>>,
    prefix: BTreeMap<Vec<u8>, Vec<Rank>>,
    any: Vec<Rank>,
    /// By their text.
    regex: HashMap<&'r str, (&'r Pattern, Vec<Rank>)>,
}

impl<'r> Groups<'r> {
    fn of(&mut self, authority: &'r AuthorityMatch) -> &mut Vec<Rank> {
        match authority {
            AuthorityMatch::Any => &mut self.any,
            AuthorityMatch::Exact(text) => self.exact.entry(Fnv::of(text.as_bytes())).or_default(),
            AuthorityMatch::Suffix(text) => self.suffix.entry(text.bytes().rev().collect()).or_default(),
            AuthorityMatch::Prefix(text) => self.prefix.entry(text.as_bytes().to_vec()).or_default(),
            AuthorityMatch::Regex(pattern) => {
                &mut self
                    .regex
                    .entry(pattern.regex().as_str())
                    .or_insert((pattern, Vec::new()))
                    .1
            }
        }
    }
}

impl AuthorityIndex {
    fn new(ranks: impl Iterator<Item = Rank>, routes: &[Arc<Route>]) -> Self {
        let mut groups = Groups::default();
        for (rank, route) in ranks.zip(routes) {
            groups.of(&route.matches.authority).push(rank);
        }
        let paths = |ranks| Paths::new(ranks, routes);
        Self {
            exact: groups
                .exact
                .into_iter()
                .map(|(hash, ranks)| (hash, paths(ranks)))
                .collect(),
            suffix: Trie::new(
                groups
                    .suffix
                    .into_iter()
                    .map(|(text, ranks)| (text, paths(ranks))),
            ),
            prefix: Trie::new(
                groups
                    .prefix
                    .into_iter()
                    .map(|(text, ranks)| (text, paths(ranks))),
            ),
            any: paths(groups.any),
            regex: by_regex(groups.regex, routes),
            least: 0,
        }
    }

    fn search(&self, search: &mut Search<'_>) {
        let authority = search.head.authority;
        if !self.exact.is_empty()
            && let Some(paths) = self.exact.get(&Fnv::of(authority.as_bytes()))
        {
            search.consider(paths);
        }
        search.walk(&self.suffix, Backward(authority));
        search.walk(&self.prefix, Forward(authority));
        search.consider(&self.any);
        self.regex.search(authority, search);
    }
}

fn by_regex(groups: HashMap<&str, (&Pattern, Vec<Rank>)>, routes: &[Arc<Route>]) -> Literals<Regexes> {
    let mut regexes: Vec<(&Pattern, Arc<Paths>)> = groups
        .into_values()
        .map(|(pattern, ranks)| (pattern, Arc::new(Paths::new(ranks, routes))))
        .collect();
    regexes.sort_unstable_by_key(|(_, paths)| paths.least());
    let numbered = (0..).zip(regexes.iter().map(|(pattern, _)| *pattern));
    let paths = |number: u32| Arc::clone(&regexes[number as usize].1);
    Literals::new(numbered, &|numbers| {
        Regexes(numbers.into_iter().map(paths).collect())
    })
}

impl Ranked for Regexes {
    fn least(&self) -> Rank {
        self.0.first().map_or(NEVER, |paths| paths.least())
    }
}

impl Searched for Regexes {
    fn search(&self, search: &mut Search<'_>) {
        for paths in &self.0 {
            let least = paths.least();
            if least >= search.best {
                return;
            }
            let example = &search.routes[least as usize];
            if example.matches.authority.accepts(search.head.authority) {
                search.consider(&**paths);
            }
        }
    }
}
