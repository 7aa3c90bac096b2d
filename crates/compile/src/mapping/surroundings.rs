//! What Mappings refer to, and what is the same for all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::reading::Readings;
use crate::context::{ContextTls, Contexts};
use crate::endpoints::Services;
use crate::module::Gateway;
use crate::resolvers::Resolvers;
use crate::{Options, names};

/// What Mappings refer to.
pub(crate) struct Surroundings<'a> {
    pub(crate) options: &'a Options,
    pub(crate) gateway: &'a Gateway,
    pub(crate) contexts: &'a Contexts<'a>,
    pub(crate) services: &'a Arc<Services>,
    pub(crate) resolvers: &'a Resolvers<'a>,
    /// What was read in the last compile and may still hold.
    pub(crate) readings: Readings,
    /// TLS where no context is named.
    pub(crate) plain: Arc<ContextTls>,
    /// `--resolve`, by host and port.
    pub(crate) resolve: HashMap<(String, u16), SocketAddr>,
    pub(super) fields: Fields,
}

/// Fields that settings of upstreams come from. One copy of each serves every Mapping.
pub(super) struct Fields {
    pub(super) service: Arc<str>,
    pub(super) tls: Arc<str>,
    pub(super) host_rewrite: Arc<str>,
    pub(super) auto_host_rewrite: Arc<str>,
    pub(super) grpc: Arc<str>,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn new(
        options: &'a Options,
        gateway: &'a Gateway,
        contexts: &'a Contexts<'a>,
        services: &'a Arc<Services>,
        resolvers: &'a Resolvers<'a>,
        readings: Readings,
    ) -> Self {
        let fields = Fields {
            service: "spec.service".into(),
            tls: "spec.tls".into(),
            host_rewrite: "spec.host_rewrite".into(),
            auto_host_rewrite: "spec.auto_host_rewrite".into(),
            grpc: "spec.grpc".into(),
        };
        let mut resolve = HashMap::new();
        for rule in &options.resolve {
            let host = match names::dns_name(&rule.host) {
                Ok(host) => host.trim_end_matches('.').to_owned(),
                Err(_) => rule.host.clone(),
            };
            let address = SocketAddr::new(rule.address, rule.to_port.unwrap_or(rule.port));
            resolve.entry((host, rule.port)).or_insert(address);
        }
        Self {
            options,
            gateway,
            contexts,
            services,
            resolvers,
            readings,
            plain: Arc::new(ContextTls::plain(gateway)),
            resolve,
            fields,
        }
    }
}
