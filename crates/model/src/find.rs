//! The search for a route.

use std::sync::Arc;

use http::{HeaderMap, Method};

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

/// The routes of a virtual host, in match order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

impl RouteTable {
    /// A table of `routes`, which stand in match order: the first that matches wins.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        Self { routes }
    }

    /// All routes in match order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first route whose conditions hold and which has a share for `draw` (uniform in `0..100`),
    /// and the target that takes it.
    pub fn find(&self, _head: &RequestHead<'_>, _draw: u8) -> Option<(&Arc<Route>, &Target)> {
        None
    }
}

/// The virtual hosts of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTable {
    hosts: Vec<Arc<VirtualHost>>,
}

impl HostTable {
    /// A table of `hosts`; of two with one hostname the first counts.
    pub fn new(hosts: Vec<Arc<VirtualHost>>) -> Self {
        Self { hosts }
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<VirtualHost>] {
        &self.hosts
    }

    /// The host for an authority (lower case): exact, then the longest `*suffix`, then the longest
    /// `prefix*`, then `*`.
    pub fn find(&self, _authority: &str) -> Option<&Arc<VirtualHost>> {
        None
    }
}
