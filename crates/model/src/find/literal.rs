//! Regular expressions found by the literal text that every match begins with, and where many begin
//! alike, by the literal text that every match ends with.

use std::collections::BTreeMap;

use regex_syntax::hir::Look;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::search::{FEW, Rank, Ranked, Search, Searched};
use super::trie::{Backward, Forward, Trie};
use crate::Pattern;

/// An expression may begin in so many ways before its beginning is cut shorter: `/v[12]/a` begins in two.
const MOST_LITERALS: usize = 10;

/// What is built of several expressions, by the texts that they can match.
#[derive(Debug)]
pub(super) struct Literals<V> {
    by_prefix: Trie<BySuffix<V>>,
}

#[derive(Debug)]
enum BySuffix<V> {
    Few(V),
    Many(Trie<V>),
}

impl<V: Ranked> Literals<V> {
    /// Expressions by a number of the caller's, which turns several numbers into a value; numbers come
    /// to it in the order of `patterns`.
    pub(super) fn new<'p>(
        patterns: impl IntoIterator<Item = (u32, &'p Pattern)>,
        make: &impl Fn(Vec<u32>) -> V,
    ) -> Self {
        let patterns: Vec<(u32, &Pattern, Vec<Vec<u8>>)> = patterns
            .into_iter()
            .map(|(id, pattern)| (id, pattern, literals(pattern, End::Front)))
            .collect();
        let by_prefix = grouped(
            patterns
                .iter()
                .map(|(id, pattern, prefixes)| ((*id, *pattern), &**prefixes)),
        );
        let by_prefix = by_prefix
            .into_iter()
            .map(|(prefix, group)| (prefix, BySuffix::new(&group, make)));
        Self {
            by_prefix: Trie::new(by_prefix),
        }
    }
}

impl<V: Searched> Literals<V> {
    pub(super) fn search(&self, text: &str, search: &mut Search<'_>) {
        for found in self.by_prefix.prefixes_of(Forward(text)) {
            if found.least >= search.best {
                return;
            }
            match found.value {
                BySuffix::Few(value) => search.consider(value),
                BySuffix::Many(trie) => search.walk(trie, Backward(text)),
            }
        }
    }
}

impl<V> Ranked for Literals<V> {
    fn least(&self) -> Rank {
        self.by_prefix.least()
    }
}

impl<V: Ranked> BySuffix<V> {
    fn new(group: &[(u32, &Pattern)], make: &impl Fn(Vec<u32>) -> V) -> Self {
        if group.len() <= FEW {
            return Self::Few(make(group.iter().map(|(id, _)| *id).collect()));
        }
        let suffixes: Vec<(u32, Vec<Vec<u8>>)> = group
            .iter()
            .map(|(id, pattern)| (*id, literals(pattern, End::Back)))
            .collect();
        let by_suffix = grouped(suffixes.iter().map(|(id, suffixes)| (*id, &**suffixes)));
        Self::Many(Trie::new(
            by_suffix.into_iter().map(|(suffix, ids)| (suffix, make(ids))),
        ))
    }
}

impl<V: Ranked> Ranked for BySuffix<V> {
    fn least(&self) -> Rank {
        match self {
            Self::Few(value) => value.least(),
            Self::Many(trie) => trie.least(),
        }
    }
}

/// An end of a text.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

/// Items by each of their keys; items of one key stay in order.
fn grouped<'k, T>(items: impl Iterator<Item = (T, &'k [Vec<u8>])>) -> BTreeMap<Vec<u8>, Vec<T>>
where
    T: Copy,
{
    let mut groups = BTreeMap::<Vec<u8>, Vec<T>>::new();
    for (item, keys) in items {
        for key in keys {
            groups.entry(key.clone()).or_default().push(item);
        }
    }
    groups
}

/// Texts of which every match begins (ends) with one; those that matches end with are spelt backwards.
/// None begins with another.
fn literals(pattern: &Pattern, end: End) -> Vec<Vec<u8>> {
    extract(pattern, end).unwrap_or_else(|| vec![Vec::new()])
}

/// None where nothing is known about how matches begin (end).
fn extract(pattern: &Pattern, end: End) -> Option<Vec<Vec<u8>>> {
    let hir = regex_syntax::parse(pattern.regex().as_str()).ok()?;
    let (anchored, anchor, kind) = match end {
        End::Front => (
            hir.properties().look_set_prefix(),
            Look::Start,
            ExtractKind::Prefix,
        ),
        End::Back => (hir.properties().look_set_suffix(), Look::End, ExtractKind::Suffix),
    };
    if !anchored.contains(anchor) {
        return None;
    }
    let mut extractor = Extractor::new();
    extractor.kind(kind).limit_total(MOST_LITERALS);
    let sequence = extractor.extract(&hir);
    let literals = sequence
        .literals()?
        .iter()
        .map(|literal| literal.as_bytes().iter().copied());
    let mut literals: Vec<Vec<u8>> = match end {
        End::Front => literals.map(Iterator::collect).collect(),
        End::Back => literals.map(|bytes| bytes.rev().collect()).collect(),
    };
    literals.sort_unstable();
    literals.dedup_by(|longer, shorter| longer.starts_with(shorter));
    Some(literals)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends, joined by spaces.
    fn ends(pattern: &Pattern) -> [String; 2] {
        [End::Front, End::Back].map(|end| {
            let literals = literals(pattern, end);
            literals
                .iter()
                .map(|literal| String::from_utf8_lossy(literal))
                .collect::<Vec<_>>()
                .join(" ")
        })
    }

    #[test]
    fn literals_are_those_that_every_match_has() {
        for (regex, front, back) in [
            ("/a/.*", "/a/", ""),
            ("/a/[^/]+/b", "/a/", "b/"),
            ("/v[12]/x", "/v1/x /v2/x", "x/1v/ x/2v/"),
            ("/a|/ab|/c", "/a /c", "a/ ba/ c/"),
            (".*", "", ""),
            ("(?i)/a", "/A /a", "A/ a/"),
            ("/[a-z]+", "/", ""),
            ("a?b", "ab b", "b"),
        ] {
            assert_eq!(
                ends(&Pattern::full(regex, 1 << 20).unwrap()),
                [front, back],
                "{regex}"
            );
        }
    }

    #[test]
    fn an_expression_that_is_not_anchored_has_no_literals() {
        assert_eq!(ends(&Pattern::partial("/a", 1 << 20).unwrap()), ["", ""]);
    }
}
