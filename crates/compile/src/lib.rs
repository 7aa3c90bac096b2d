//! Resources in, one immutable snapshot and its problems out.
//!
//! ```text
//! Objects ──▶ inventory (by kind, ours only) ──▶ module, services, TLSContexts, Hosts
//!                                                       │
//!             Mappings ──▶ conditions ──▶ groups ───────┤
//!                    └───▶ service, tls ──▶ upstreams   ▼
//!                                             Listeners ──▶ Snapshot
//! ```
//!
//! [`compile`] is total and pure: it reads no clock, no file and no network (but for the system's roots, which
//! the first revocation list that is checked against them loads for the whole process), and whatever a user
//! wrote becomes either a route or a [`nuncio_model::Problem`], most often both.

mod annotation;
mod context;
mod conversion;
mod decode;
mod endpoints;
mod expiry;
mod groups;
mod guards;
mod hashed;
mod hosts;
mod inventory;
mod last_good;
mod listeners;
mod mapping;
mod module;
mod names;
mod object;
mod options;
mod origination;
mod placeholder;
mod problems;
mod references;
mod resolvers;
mod secrets;
mod service;
mod tellable;
mod unread;
mod upstreams;
pub mod yaml;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use foldhash::{HashSet, HashSetExt};
use nuncio_model::{EndpointTable, LoadedCertificate, Snapshot};

use crate::endpoints::{Extent, Services};
use crate::expiry::Expiry;
use crate::groups::Groups;
use crate::hosts::{Association, Host};
use crate::inventory::{Expanded, Inventory};
use crate::mapping::reading::Kept;
use crate::mapping::{Made, Surroundings};
use crate::problems::Problems;
use crate::resolvers::Resolvers;
use crate::secrets::Materials;
use crate::upstreams::Upstreams;

pub use endpoints::tells_other_addresses_only;
pub use inventory::{expanded, is_for_another_gateway, is_for_gateway};
pub use last_good::LastGood;
pub use object::{Document, Object, Objects};
pub use options::{Options, ResolveRule, ResolveRuleError};
pub use references::{referenced_files, referenced_secrets};

/// What a compile gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// To be served.
    pub snapshot: Snapshot,
    /// Addresses of the Services among the objects.
    pub endpoints: EndpointTable,
    /// The moment after [`Options::now`] from which the same objects give something else, such as a warning that
    /// a certificate ends.
    pub next_event: Option<SystemTime>,
    /// For the next compile of this process.
    pub last_good: LastGood,
}

/// Compiles all objects. Total: problems are in the snapshot, first those found while loading, then
/// those about nothing in particular, then the others in the order of the objects.
///
/// `last_good` is that of the latest compile in this process whose snapshot was published; an empty one
/// at the start.
#[expect(
    clippy::too_many_lines,
    reason = "the stages of a compile read from top to bottom in one place"
)]
pub fn compile(objects: &Objects, options: &Options, last_good: &LastGood) -> Output {
    let mut problems = Problems::default();
    let expanded = inventory::expand(&objects.objects, &mut problems);
    let inventory = Inventory::take(&expanded, options, &mut problems);
    let gateway = module::read(&inventory.modules, options, &mut problems);
    let extent = Extent::of(objects, options);
    let services = last_good.services.next(&inventory, extent, &mut problems);
    let resolvers = Resolvers::read(&inventory, &mut problems);
    let mut materials = Materials::new(
        &inventory.secrets,
        &expanded,
        objects,
        options,
        last_good,
        &mut problems,
    );
    let readings = last_good.readings.under(options, &gateway);
    let contexts = context::read(
        &inventory.contexts,
        &gateway,
        &options.namespace,
        &mut materials,
        last_good,
        readings.go_on().then_some(&*last_good.read_contexts),
        &mut problems,
    );
    let hosts = hosts::read(&inventory, options, &mut materials, &mut problems);

    let around = Surroundings::new(
        options,
        &gateway,
        &contexts,
        &services.services,
        &resolvers,
        readings,
    );
    let Made {
        groups,
        upstreams,
        kept,
        ..
    } = made(&inventory, &hosts, &around, &mut problems);
    let upstreams = upstreams.finish();
    let used = || kept.iter().filter_map(Kept::context);
    contexts.report_one_sided(used(), &mut problems);

    let groups = groups.finish(&mut problems);
    let mut association = Association::new(&groups, options.loose_label_selectors);
    let listeners = listeners::read(
        &inventory.listeners,
        &hosts,
        &mut association,
        options,
        &mut problems,
    );
    if !listeners.is_empty() {
        association.tell_unreached(&mut problems);
    }
    let mut last_good = last_good.next(&contexts, used());
    last_good.readings =
        around
            .readings
            .next(kept, association.routes_of_one(), &upstreams, &services.services);
    last_good.services = services.clone();
    let expiry = Expiry::new(&gateway.settings.certificate_expiry_warnings, options.now);
    expiry.tell(
        &inventory.contexts,
        &inventory.mappings,
        &last_good,
        &mut problems,
    );
    let mut all = objects.problems.clone();
    all.extend(problems.in_order_of(&expanded));
    let certificates = certificates(&last_good, &materials);
    let next_event = expiry.next(&last_good, materials.server_certificates());
    last_good.known = materials.into_known();
    Output {
        snapshot: Snapshot {
            revision: options.revision,
            listeners,
            guards: guards::in_order(gateway.by_address.as_ref(), &inventory.guards),
            upstreams,
            certificates,
            problems: all.into(),
            settings: gateway.settings.clone(),
            compiled: None,
        },
        endpoints: services.table.clone(),
        next_event,
        last_good,
    }
}

/// What the Mappings make, for Hosts that may select them.
fn made<'a>(
    inventory: &Inventory<'a>,
    hosts: &[Host<'_>],
    around: &'a Surroundings<'_>,
    problems: &mut Problems,
) -> Made<'a> {
    let selectors = hosts.iter().filter_map(|host| host.selector.as_ref());
    let selecting = selectors.map(|selector| selector.labels.clone()).collect();
    let count = inventory.mappings.len();
    let mut made = Made {
        groups: Groups::new(selecting, count),
        upstreams: Upstreams::with_capacity(count),
        kept: Vec::with_capacity(count),
        before: around.readings.in_order(),
    };
    for object in &inventory.mappings {
        mapping::compile(object, around, &mut made, problems);
    }
    made
}

/// Only the addresses of Services: what Service, Endpoints and EndpointSlice objects say. Problems with
/// them are [`compile`]'s to tell.
pub fn endpoints(objects: &Objects, options: &Options) -> EndpointTable {
    let mut unheard = Problems::default();
    let expanded = inventory::expand(&objects.objects, &mut unheard);
    let inventory = Inventory::take(&expanded, options, &mut unheard);
    Services::read(&inventory, &mut unheard).table()
}

/// The same for one Service: its own object and those of its endpoints.
pub fn endpoints_of(objects: &[&Object], options: &Options) -> EndpointTable {
    let mut unheard = Problems::default();
    let objects: Vec<_> = objects.iter().map(|object| Expanded::Given(object)).collect();
    let inventory = Inventory::take(&objects, options, &mut unheard);
    Services::read(&inventory, &mut unheard).table()
}

/// Files of the folder that is [`Options::istio_directory`]; whoever calls [`compile`] reads them into
/// [`Objects::files`].
pub fn istio_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    secrets::directory_files(directory)
}

/// Every certificate of every context that works, and of Hosts, each once.
fn certificates(good: &LastGood, materials: &Materials<'_>) -> Vec<LoadedCertificate> {
    let (mut bundles, mut seen) = (HashSet::new(), HashSet::new());
    let mut certificates: Vec<LoadedCertificate> = good
        .contexts
        .values()
        .flat_map(|tls| &tls.certificates)
        .chain(materials.server_certificates())
        .filter(|bundle| bundles.insert(bundle.as_ptr()))
        .flat_map(|bundle| bundle.iter())
        .filter(|certificate| seen.insert((certificate.role, &certificate.from, &certificate.info.sha256)))
        .cloned()
        .collect();
    certificates.sort_by(|a, b| (&a.from, &a.info.sha256).cmp(&(&b.from, &b.info.sha256)));
    certificates
}
