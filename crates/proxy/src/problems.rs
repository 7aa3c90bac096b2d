//! Problems that only running shows: ports that are taken, and certificates of upstreams that end. They are judged
//! whenever somebody asks for them, from what the latest handshakes showed; a request has no part in it.

use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{PeerExpiry, Problem, Severity, Snapshot, Upstream, peer_expiry};

use crate::upstream::live::lock;
use crate::worker::Shared;

/// All of them: first the ports, then the upstreams in the order of the snapshot, each for every Mapping that
/// uses it.
pub(crate) fn all(snapshot: &Snapshot, shared: &Shared) -> Vec<Problem> {
    let mut problems = ports(snapshot, shared);
    for (upstream, PeerExpiry { reason, message }) in peers(snapshot, shared) {
        problems.extend(upstream.mappings.iter().map(|mapping| Problem {
            severity: Severity::Warning,
            reason: reason.into(),
            message: message.clone(),
            object: Some(mapping.clone()),
            field: Some("spec.service".into()),
            place: None,
        }));
    }
    problems
}

/// How many errors and warnings there are.
pub(crate) fn count(snapshot: &Snapshot, shared: &Shared) -> [(Severity, usize); 2] {
    let errors = lock(&shared.unbound).len();
    let warnings = peers(snapshot, shared).map(|(upstream, _)| upstream.mappings.len());
    [(Severity::Error, errors), (Severity::Warning, warnings.sum())]
}

fn ports(snapshot: &Snapshot, shared: &Shared) -> Vec<Problem> {
    let unbound = lock(&shared.unbound);
    let mut ports: Vec<_> = unbound.iter().collect();
    ports.sort_unstable();
    ports
        .into_iter()
        .map(|(port, why)| Problem {
            severity: Severity::Error,
            reason: "port_unavailable".into(),
            message: format!("cannot listen on port {port} of {}: {why}", shared.bind),
            object: snapshot
                .listeners
                .iter()
                .find(|listener| listener.port == *port)
                .and_then(|listener| listener.object.clone()),
            field: Some("spec.port".into()),
            place: None,
        })
        .collect()
}

fn peers<'s>(
    snapshot: &'s Snapshot,
    shared: &Shared,
) -> impl Iterator<Item = (&'s Arc<Upstream>, PeerExpiry)> {
    let warnings = &snapshot.settings.certificate_expiry_warnings;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    snapshot.upstreams.iter().filter_map(move |upstream| {
        upstream.identity.tls.as_ref()?;
        let status = shared.registry.get(&upstream.identity)?.status();
        Some((upstream, peer_expiry(upstream, &status.endpoints, warnings, now)?))
    })
}
