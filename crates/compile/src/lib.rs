//! Resources in, one immutable snapshot and its problems out.
//!
//! [`compile`] is total and pure: it reads no clock, no file and no network, and whatever a user
//! wrote becomes either a route or a [`nuncio_model::Problem`], most often both.

use std::path::PathBuf;
use std::sync::Arc;

use nuncio_model::{EndpointTable, Settings, Snapshot};

mod object;
mod options;

pub use object::{Object, Objects};
pub use options::{Options, ResolveRule, ResolveRuleError};

/// TLS settings that worked in an earlier compile. They serve on while their TLSContext is broken
/// or gone (decision 1; rows D9, K7, K8).
#[derive(Clone, Debug, Default)]
pub struct LastGood {}

/// What a compile gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// To be served.
    pub snapshot: Snapshot,
    /// Addresses of the Services among the objects.
    pub endpoints: EndpointTable,
    /// For the next compile of this process.
    pub last_good: LastGood,
}

/// Compiles all objects. Total: problems are in the snapshot, in the order of the objects.
pub fn compile(objects: &Objects, options: &Options, last_good: &LastGood) -> Output {
    Output {
        snapshot: Snapshot {
            revision: options.revision,
            listeners: Vec::new(),
            upstreams: Vec::new(),
            certificates: Vec::new(),
            problems: Arc::from(objects.problems.clone()),
            settings: Settings::default(),
        },
        endpoints: endpoints(objects, options),
        last_good: last_good.clone(),
    }
}

/// Only the addresses of Services: what Service, Endpoints and EndpointSlice objects say.
pub fn endpoints(_objects: &Objects, _options: &Options) -> EndpointTable {
    EndpointTable::default()
}

/// Files that TLSContexts name; whoever calls [`compile`] reads them into [`Objects::files`].
pub fn referenced_files(_objects: &[Object]) -> Vec<PathBuf> {
    Vec::new()
}
