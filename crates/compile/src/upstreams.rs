//! The distinct upstreams of a snapshot, and their names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nuncio_model::{
    Identity, ObjectRef, Resolve, TlsOrigins, TlsSettings, Upstream, UpstreamHost, UpstreamHttp,
    UpstreamIndex,
};

/// Collects upstreams; equal ones become one (decision 8).
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    list: Vec<Upstream>,
    by_identity: HashMap<Arc<Identity>, UpstreamIndex>,
    names: HashSet<Arc<str>>,
    /// Settings and suites are the same for many upstreams; one copy of each is kept.
    settings: HashSet<Arc<TlsSettings>>,
}

/// What an upstream is made of, before it is known whether there is such a one already.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) host: UpstreamHost,
    pub(crate) port: u16,
    pub(crate) resolve: Resolve,
    pub(crate) tls: Option<(TlsSettings, TlsOrigins)>,
    pub(crate) http: UpstreamHttp,
}

impl Upstreams {
    /// The upstream made of `parts`, now also used by `mapping`.
    pub(crate) fn add(&mut self, parts: Parts, mapping: &ObjectRef) -> UpstreamIndex {
        let Parts {
            host,
            port,
            resolve,
            tls,
            http,
        } = parts;
        let (tls, origins) = tls
            .map(|(settings, origins)| (self.share(settings), origins))
            .unzip();
        let identity = Identity {
            host,
            port,
            resolve,
            tls,
            http,
        };
        if let Some(&index) = self.by_identity.get(&identity) {
            self.list[index.0 as usize].join(mapping, origins);
            return index;
        }
        // More than 2^32 upstreams do not fit into memory, so the last index is never reached.
        let index = UpstreamIndex(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let name = self.name(&identity, origins.as_ref());
        let identity = Arc::new(identity);
        self.by_identity.insert(Arc::clone(&identity), index);
        self.list.push(Upstream {
            name,
            identity,
            mappings: vec![mapping.clone()],
            origins,
            other_origins: Vec::new(),
        });
        index
    }

    /// All of them, in the order of their indexes.
    pub(crate) fn finish(self) -> Vec<Arc<Upstream>> {
        self.list.into_iter().map(Arc::new).collect()
    }

    fn share(&mut self, settings: TlsSettings) -> Arc<TlsSettings> {
        if let Some(shared) = self.settings.get(&settings) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(settings);
        self.settings.insert(Arc::clone(&shared));
        shared
    }

    /// `https://svc:443 (ctx.ns)`. Upstreams that differ in something else get that added, and a number
    /// where even this is not enough. Nothing that rotates is part of a name.
    fn name(&mut self, identity: &Identity, origins: Option<&TlsOrigins>) -> Arc<str> {
        let Identity {
            host,
            port,
            tls,
            http,
            ..
        } = identity;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut name = format!("{scheme}://{host}:{port}");
        if let Some(context) = origins.and_then(|origins| origins.context.as_ref()) {
            name.push_str(&format!(" ({})", context.qualified()));
        }
        let sni = tls
            .as_ref()
            .and_then(|tls| tls.sni.as_deref())
            .filter(|sni| host.to_string().trim_end_matches('.') != *sni)
            .map(|sni| format!(" sni={sni}"));
        let version = match http {
            UpstreamHttp::Http1 => " http/1.1",
            UpstreamHttp::Http2 => " h2",
            UpstreamHttp::Negotiated => " h2,http/1.1",
        };
        for more in [sni.as_deref().unwrap_or_default(), version] {
            if self.names.contains(name.as_str()) {
                name.push_str(more);
            }
        }
        let plain = name.clone();
        let mut number = 2;
        while self.names.contains(name.as_str()) {
            name = format!("{plain} #{number}");
            number += 1;
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}
