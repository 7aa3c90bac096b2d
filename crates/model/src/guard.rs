//! Guards: what must let a request pass before it reaches an upstream.

use std::sync::Arc;

use crate::{Forward, ObjectRef, Unresolved};

/// Every guard of a snapshot, in the order in which a request meets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards(Arc<[Guard]>);

/// Something that must let requests pass, and cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The object that asks for it.
    pub object: ObjectRef,
    /// Which requests it guards.
    pub covers: Covers,
    /// Why it cannot be asked, so that no request passes.
    pub unresolved: Unresolved,
}

/// The requests that a guard stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covers {
    /// Every request, also one that is redirected or that no Mapping matches.
    Every,
    /// Those that go to an upstream, but for Mappings with `bypass_auth`.
    Forwarded,
    /// Those of [`Self::Forwarded`] of which the first rule that matches says so.
    Rules(Arc<[GuardRule]>),
}

/// Whether requests for a host and path are guarded. In both globs a star stands for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRule {
    /// Glob of the authority, lower case; with or without a port.
    pub host: Arc<str>,
    /// Glob of the normalised path, without the query.
    pub path: Arc<str>,
    /// Such requests are guarded; else they are exempt.
    pub guards: bool,
}

impl FromIterator<Guard> for Guards {
    fn from_iter<I: IntoIterator<Item = Guard>>(guards: I) -> Self {
        Self(guards.into_iter().collect())
    }
}

impl Guards {
    /// All of them.
    pub fn all(&self) -> &[Guard] {
        &self.0
    }

    /// The first that no request passes.
    pub fn before_all(&self) -> Option<&Guard> {
        self.0.iter().find(|guard| guard.covers == Covers::Every)
    }

    /// The first that a request to an upstream does not pass. `authority` is in lower case and may have a port.
    pub fn before(&self, forward: &Forward, authority: &str, path: &str) -> Option<&Guard> {
        self.0.iter().find(|guard| match &guard.covers {
            Covers::Every => true,
            Covers::Forwarded => !forward.bypass_auth,
            Covers::Rules(rules) => {
                let first = || rules.iter().find(|rule| rule.is_for(authority, path));
                !forward.bypass_auth && first().is_some_and(|rule| rule.guards)
            }
        })
    }
}

impl GuardRule {
    /// A rule that guards ignores the case of the path, which an upstream may ignore as well.
    fn is_for(&self, authority: &str, path: &str) -> bool {
        let without_port = authority
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(authority, |(host, _)| host);
        let host = |authority| globbed(&self.host, authority, false);
        (host(authority) || host(without_port)) && globbed(&self.path, path, self.guards)
    }
}

/// Whether `text` matches `glob`.
fn globbed(glob: &str, text: &str, ignore_case: bool) -> bool {
    let same = |a: u8, b: u8| a == b || (ignore_case && a.eq_ignore_ascii_case(&b));
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // After the last star, and where in the text what follows it was tried last.
    let mut retry = None;
    while from < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, from));
            }
            Some(&byte) if same(byte, text[from]) => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((after, tried)) = retry else { return false };
                at = after;
                from = tried + 1;
                retry = Some((after, from));
            }
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        for (glob, text, matches) in [
            ("*", "", true),
            ("*", "/a/b", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/a", false),
            ("/a", "/a/", false),
            ("*/b/*", "/a/b/c/b/d", true),
            ("/*/c", "/a/b/c", true),
            ("/*/c", "/a/b/cd", false),
            ("*.test", "a.b.test", true),
            ("*.test", "test", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(globbed(glob, text, false), matches, "{glob} {text}");
        }
        assert!(globbed("/Admin/*", "/aDMIN/x", true));
        assert!(!globbed("/Admin/*", "/admin/x", false));
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rule = |host: &str, path: &str, guards| GuardRule {
            host: host.into(),
            path: path.into(),
            guards,
        };
        let rules = [
            rule("a.test", "/public/*", false),
            rule("a.test", "/*", true),
            rule("*", "/admin/*", true),
        ];
        let guarded = |authority: &str, path: &str| {
            let first = rules.iter().find(|rule| rule.is_for(authority, path));
            first.is_some_and(|rule| rule.guards)
        };
        assert!(guarded("a.test", "/"));
        assert!(guarded("a.test:8443", "/x"));
        assert!(!guarded("a.test", "/public/x"));
        // An exemption is taken by the letter.
        assert!(guarded("a.test", "/PUBLIC/x"));
        assert!(!guarded("b.test", "/x"));
        assert!(guarded("b.test", "/Admin/x"));
    }
}
