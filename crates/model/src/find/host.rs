//! Hostnames of a listener, by how closely they fit an authority.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::search::{Rank, Ranked};
use super::trie::{Backward, Forward, Text, Trie};
use crate::VirtualHost;

/// Positions of hosts by hostname.
#[derive(Debug)]
pub(super) struct HostIndex {
    exact: HashMap<Box<str>, Host>,
    /// Keys are spelt backwards.
    suffix: Trie<Host>,
    prefix: Trie<Host>,
    any: Option<Host>,
}

/// Position of a host.
#[derive(Clone, Copy, Debug)]
struct Host(Rank);

impl Ranked for Host {
    fn least(&self) -> Rank {
        self.0
    }
}

impl HostIndex {
    pub(super) fn new(hosts: &[Arc<VirtualHost>]) -> Self {
        let mut exact = HashMap::new();
        let mut suffix = BTreeMap::new();
        let mut prefix = BTreeMap::new();
        let mut any = None;
        for (position, host) in (0..).zip(hosts) {
            let name = host.hostname.to_ascii_lowercase();
            let host = Host(position);
            if name == "*" {
                any.get_or_insert(host);
            } else if let Some(text) = name.strip_prefix('*') {
                suffix.entry(text.bytes().rev().collect()).or_insert(host);
            } else if let Some(text) = name.strip_suffix('*') {
                prefix.entry(text.as_bytes().to_vec()).or_insert(host);
            } else {
                exact.entry(name.into()).or_insert(host);
            }
        }
        Self {
            exact,
            suffix: Trie::new(suffix),
            prefix: Trie::new(prefix),
            any,
        }
    }

    /// Position of the host that fits best.
    pub(super) fn find(&self, authority: &str) -> Option<usize> {
        let exact = self.exact.get(authority).copied();
        let host = exact
            .or_else(|| longest(&self.suffix, Backward(authority)))
            .or_else(|| longest(&self.prefix, Forward(authority)))
            .or(self.any)?;
        Some(host.0 as usize)
    }
}

/// The host with the longest text that leaves something for the star to stand for.
fn longest<T: Text>(trie: &Trie<Host>, authority: T) -> Option<Host> {
    trie.prefixes_of(authority)
        .find(|found| !found.whole)
        .map(|found| *found.value)
}
