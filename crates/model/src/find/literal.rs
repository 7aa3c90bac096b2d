//! Regular expressions found by the literal text that every match begins with, and where many begin
//! alike, by the literal text that every match ends with.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, Look};

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
        let patterns: Vec<(u32, Affixes)> = patterns
            .into_iter()
            .map(|(id, pattern)| (id, Affixes::of(pattern)))
            .collect();
        let by_prefix = grouped(
            patterns
                .iter()
                .map(|(id, affixes)| ((*id, affixes), &*affixes.prefixes)),
        );
        Self {
            by_prefix: Trie::new(by_prefix.map(|(prefix, group)| (prefix, BySuffix::new(&group, make)))),
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
    fn new(group: &[(u32, &Affixes)], make: &impl Fn(Vec<u32>) -> V) -> Self {
        if group.len() <= FEW {
            return Self::Few(make(group.iter().map(|(id, _)| *id).collect()));
        }
        let by_suffix = grouped(group.iter().map(|(id, affixes)| (*id, &*affixes.suffixes)));
        Self::Many(Trie::new(by_suffix.map(|(suffix, ids)| (suffix, make(ids)))))
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

/// Items by each of their keys; items of one key stay in order.
fn grouped<'k, T: Copy>(
    items: impl Iterator<Item = (T, &'k [Vec<u8>])>,
) -> impl Iterator<Item = (Vec<u8>, Vec<T>)> {
    let mut groups = std::collections::BTreeMap::<Vec<u8>, Vec<T>>::new();
    for (item, keys) in items {
        for key in keys {
            groups.entry(key.clone()).or_default().push(item);
        }
    }
    groups.into_iter()
}

/// Every match begins with one of `prefixes` and ends with one of `suffixes`, which are spelt backwards.
#[derive(Debug, PartialEq, Eq)]
struct Affixes {
    prefixes: Vec<Vec<u8>>,
    suffixes: Vec<Vec<u8>>,
}

impl Affixes {
    fn of(pattern: &Pattern) -> Self {
        // The expression has compiled, so it parses; if it did not, it would be looked at every time.
        let Ok(hir) = regex_syntax::parse(pattern.regex().as_str()) else {
            return Self {
                prefixes: anything(),
                suffixes: anything(),
            };
        };
        let from_start = hir.properties().look_set_prefix().contains(Look::Start);
        let to_end = hir.properties().look_set_suffix().contains(Look::End);
        Self {
            prefixes: if from_start {
                literals(&hir, ExtractKind::Prefix)
            } else {
                anything()
            },
            suffixes: if to_end {
                literals(&hir, ExtractKind::Suffix)
            } else {
                anything()
            },
        }
    }
}

fn anything() -> Vec<Vec<u8>> {
    vec![Vec::new()]
}

/// The literals, none of which begins with another, in the direction of `kind`.
fn literals(hir: &Hir, kind: ExtractKind) -> Vec<Vec<u8>> {
    let backwards = matches!(kind, ExtractKind::Suffix);
    let mut extractor = Extractor::new();
    extractor.kind(kind).limit_total(MOST_LITERALS);
    let sequence = extractor.extract(hir);
    let Some(found) = sequence.literals() else {
        return anything();
    };
    let mut found: Vec<Vec<u8>> = found.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    if backwards {
        found.iter_mut().for_each(|literal| literal.reverse());
    }
    found.sort_unstable();
    found.dedup_by(|longer, shorter| longer.starts_with(shorter));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affixes(text: &str) -> (Vec<String>, Vec<String>) {
        let affixes = Affixes::of(&Pattern::full(text, 1 << 20).unwrap());
        let text = |literals: Vec<Vec<u8>>| {
            literals
                .into_iter()
                .map(|l| String::from_utf8(l).unwrap())
                .collect()
        };
        (text(affixes.prefixes), text(affixes.suffixes))
    }

    #[test]
    fn literals_are_those_that_every_match_has() {
        for (regex, prefixes, suffixes) in [
            ("/a/.*", &["/a/"][..], &[""][..]),
            ("/a/[^/]+/b", &["/a/"], &["b/"]),
            ("/v[12]/x", &["/v1/x", "/v2/x"], &["x/1v/", "x/2v/"]),
            ("/a|/ab|/c", &["/a", "/c"], &["a/", "ba/", "c/"]),
            (".*", &[""], &[""]),
            ("(?i)/a", &["/A", "/a"], &["A/", "a/"]),
            ("/[a-z]+", &["/"], &[""]),
            ("a?b", &["ab", "b"], &["b"]),
        ] {
            let (found_prefixes, found_suffixes) = affixes(regex);
            assert_eq!(
                (&*found_prefixes, &*found_suffixes),
                (
                    &prefixes.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                    &suffixes.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
                ),
                "{regex}"
            );
        }
    }

    #[test]
    fn an_expression_that_is_not_anchored_has_no_literals() {
        let affixes = Affixes::of(&Pattern::partial("/a", 1 << 20).unwrap());
        assert_eq!(
            affixes,
            Affixes {
                prefixes: anything(),
                suffixes: anything()
            }
        );
    }
}
