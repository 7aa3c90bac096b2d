//! The search for a virtual host and for a route in it.
//!
//! Both are indexes: what a search costs depends on the length of the request head, not on the number of
//! routes. Routes are narrowed down by authority, then by path, then by the values of method, headers and
//! parameters. Every step only names candidates; [`crate::RouteMatch::accepts`] decides, and of those it
//! accepts the first in match order wins. Whatever cannot beat the best so far is passed by.
//!
//! The steps do not help among routes that differ in expressions on headers or parameters alone, or in
//! path expressions that have both ends in common: those are tried in turn.

mod authority;
mod conditions;
mod hash;
mod host;
mod literal;
mod path;
mod search;
mod shape;
#[cfg(test)]
mod tests;
mod trie;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method};

use self::authority::Authorities;
use self::host::HostIndex;
use self::search::{NEVER, Search};
use crate::{Route, Target, VirtualHost};

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Lower case, with port where given.
    pub authority: &'a str,
    /// Normalised, without query.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// The routes of a virtual host, in match order. Equal when the routes are.
#[derive(Clone)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    index: Arc<Authorities>,
}

impl RouteTable {
    /// A table of `routes`, which stand in match order: the first that matches wins.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let index = Arc::new(Authorities::new(&routes));
        Self { routes, index }
    }

    /// All routes in match order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first route whose conditions hold and which has a share for `draw` (uniform in `0..100`),
    /// and the target that takes it.
    pub fn find(&self, head: &RequestHead<'_>, draw: u8) -> Option<(&Arc<Route>, &Target)> {
        let mut search = Search {
            head,
            draw,
            routes: &self.routes,
            best: NEVER,
        };
        search.consider(&*self.index);
        let route = self.routes.get(search.best as usize)?;
        route.target(draw).map(|target| (route, target))
    }
}

impl PartialEq for RouteTable {
    fn eq(&self, other: &Self) -> bool {
        self.routes == other.routes
    }
}

impl Eq for RouteTable {}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

/// The virtual hosts of a listener. Equal when the hosts are.
#[derive(Clone)]
pub struct HostTable {
    hosts: Vec<Arc<VirtualHost>>,
    index: Arc<HostIndex>,
}

impl HostTable {
    /// A table of `hosts`; of two with one hostname the first counts.
    pub fn new(hosts: Vec<Arc<VirtualHost>>) -> Self {
        let index = Arc::new(HostIndex::new(&hosts));
        Self { hosts, index }
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<VirtualHost>] {
        &self.hosts
    }

    /// The host for an authority (lower case): exact, then the longest `*suffix`, then the longest
    /// `prefix*`, then `*`. Letter case of hostnames does not matter; a star stands for at least one
    /// character, alone for any authority.
    pub fn find(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        self.index
            .find(authority)
            .and_then(|position| self.hosts.get(position))
    }
}

impl PartialEq for HostTable {
    fn eq(&self, other: &Self) -> bool {
        self.hosts == other.hosts
    }
}

impl Eq for HostTable {}

impl fmt::Debug for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.hosts).finish()
    }
}
