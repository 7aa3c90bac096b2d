//! Addresses of Services. They change far more often than anything else and have their own way to
//! the workers: publishing a new table needs no compile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::ServiceKey;

/// Ready addresses by Service port. A Service that is absent has no endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointTable {
    /// In the order of the manifests, without duplicates.
    pub services: HashMap<ServiceKey, Arc<[SocketAddr]>>,
}

impl EndpointTable {
    /// Addresses of one Service port, empty where it has none.
    pub fn addresses(&self, key: &ServiceKey) -> &[SocketAddr] {
        self.services.get(key).map_or(&[], |addresses| addresses)
    }
}
