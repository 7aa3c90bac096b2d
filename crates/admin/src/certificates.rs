//! `/api/v1/certificates`: what was loaded, and what upstreams showed in their last handshake.

use std::collections::HashSet;
use std::sync::Arc;

use nuncio_model::{CertificateRole, LoadedCertificate, Snapshot, Upstream};
use serde::Serialize;

use crate::Admin;
use crate::upstreams::with_status;

#[derive(Debug, Serialize)]
pub(crate) struct Certificates {
    certificates: Vec<LoadedCertificate>,
}

impl Certificates {
    pub(crate) fn of(admin: &Admin, snapshot: &Snapshot) -> Self {
        let mut certificates = snapshot.certificates.clone();
        for (upstream, status) in with_status(admin, snapshot) {
            // Endpoints of one upstream show the same chain as a rule: once is enough.
            let mut seen = HashSet::new();
            for endpoint in &status.endpoints {
                let peer = endpoint
                    .last_handshake
                    .iter()
                    .flat_map(|handshake| &handshake.peer);
                let new = peer.filter(|info| seen.insert(info.sha256.clone()));
                certificates.extend(new.map(|info| presented(upstream, &endpoint.address, info)));
            }
        }
        Self { certificates }
    }
}

fn presented(upstream: &Upstream, endpoint: &str, info: &nuncio_model::CertificateInfo) -> LoadedCertificate {
    LoadedCertificate {
        role: CertificateRole::Peer,
        info: Arc::new(info.clone()),
        from: format!("{}, endpoint {endpoint}", upstream.name),
        namespace: "".into(),
        secret: "".into(),
    }
}
