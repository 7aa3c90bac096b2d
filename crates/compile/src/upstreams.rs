//! The distinct upstreams of a snapshot, and their names.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_model::{
    Identity, ObjectRef, Resolve, TlsOrigins, TlsSettings, Upstream, UpstreamHost, UpstreamHttp,
    UpstreamIndex,
};

use crate::hashed::Hashed;

/// Collects upstreams; equal ones become one (decision 8).
pub(crate) struct Upstreams {
    list: Vec<Arc<Upstream>>,
    by_identity: HashMap<Hashed<Identity>, UpstreamIndex>,
    names: HashSet<Arc<str>>,
    /// Settings and suites are the same for many upstreams; one copy of each is kept.
    settings: HashSet<Hashed<TlsSettings>>,
}

/// What an upstream is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) host: UpstreamHost,
    pub(crate) port: u16,
    pub(crate) resolve: Resolve,
    pub(crate) tls: Option<(TlsSettings, TlsOrigins)>,
    pub(crate) http: UpstreamHttp,
}

/// An upstream, before it is known whether there is such a one already. It serves many compiles.
pub(crate) struct Candidate {
    identity: Hashed<Identity>,
    settings: Option<Hashed<TlsSettings>>,
    origins: Option<TlsOrigins>,
    /// Its name where no other upstream has it.
    name: Arc<str>,
}

impl Upstreams {
    /// For as many as there are Mappings, at most.
    pub(crate) fn with_capacity(mappings: usize) -> Self {
        Self {
            list: Vec::with_capacity(mappings),
            by_identity: HashMap::with_capacity(mappings),
            names: HashSet::with_capacity(mappings),
            settings: HashSet::new(),
        }
    }

    /// What `parts` make, sharing what equal ones have in common.
    pub(crate) fn candidate(&self, parts: Parts) -> Candidate {
        let Parts {
            host,
            port,
            resolve,
            tls,
            http,
        } = parts;
        let (settings, origins) = tls
            .map(|(settings, origins)| (self.share(settings), origins))
            .unzip();
        let identity = Hashed::new(Arc::new(Identity {
            host,
            port,
            resolve,
            tls: settings.as_ref().map(|settings| Arc::clone(&settings.value)),
            http,
        }));
        let known = self.by_identity.get_key_value(&identity);
        let identity = known.map_or(identity, |(known, _)| known.clone());
        let name = plain_name(&identity.value, origins.as_ref()).into();
        Candidate {
            identity,
            settings,
            origins,
            name,
        }
    }

    /// The upstream of a candidate, now also used by `mapping`. `before` is the one that the same candidate of the
    /// same Mapping led to in an earlier compile.
    pub(crate) fn add(
        &mut self,
        candidate: &Candidate,
        mapping: &ObjectRef,
        before: Option<&Arc<Upstream>>,
    ) -> UpstreamIndex {
        if let Some(&index) = self.by_identity.get(&candidate.identity) {
            Arc::make_mut(&mut self.list[index.0 as usize]).join(mapping, candidate.origins.clone());
            return index;
        }
        // More than 2^32 upstreams do not fit into memory, so the last index is never reached.
        let index = UpstreamIndex(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let name = self.name(candidate);
        self.by_identity.insert(candidate.identity.clone(), index);
        self.settings.extend(candidate.settings.clone());
        let unchanged = before.filter(|before| {
            before.name == name && before.mappings.len() == 1 && before.mappings.first() == Some(mapping)
        });
        self.list.push(match unchanged {
            Some(before) => Arc::clone(before),
            None => Arc::new(Upstream {
                name,
                identity: Arc::clone(&candidate.identity.value),
                mappings: vec![mapping.clone()],
                origins: candidate.origins.clone(),
                other_origins: Vec::new(),
            }),
        });
        index
    }

    /// All of them, in the order of their indexes.
    pub(crate) fn finish(self) -> Vec<Arc<Upstream>> {
        self.list
    }

    fn share(&self, settings: TlsSettings) -> Hashed<TlsSettings> {
        let settings = Hashed::new(Arc::new(settings));
        self.settings.get(&settings).cloned().unwrap_or(settings)
    }

    /// `https://svc:443 (ctx.ns)`. Upstreams that differ in something else get that added, and a number
    /// where even this is not enough. Nothing that rotates is part of a name.
    fn name(&mut self, candidate: &Candidate) -> Arc<str> {
        if self.names.insert(Arc::clone(&candidate.name)) {
            return Arc::clone(&candidate.name);
        }
        let mut name = candidate.name.to_string();
        let Identity { host, tls, http, .. } = &*candidate.identity.value;
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

fn plain_name(identity: &Identity, origins: Option<&TlsOrigins>) -> String {
    let Identity { host, port, tls, .. } = identity;
    let scheme = if tls.is_some() { "https" } else { "http" };
    match origins.and_then(|origins| origins.context.as_ref()) {
        Some(context) => format!("{scheme}://{host}:{port} ({})", context.qualified()),
        None => format!("{scheme}://{host}:{port}"),
    }
}
