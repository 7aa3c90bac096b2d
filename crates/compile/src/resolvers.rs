//! Resolvers: how the host of a `service` becomes addresses (C.7).
//!
//! Requests go to the ready endpoints of a Service where these are known, else to its `clusterIP`, else to what DNS
//! says, whichever of Kubernetes' resolvers is named: they differ only in whether kube-proxy chooses the endpoint. What
//! Consul knows, nuncio does not.

use foldhash::HashMap;
use nuncio_crds::{KubernetesEndpointResolverSpec, KubernetesServiceResolverSpec};

use crate::inventory::Inventory;
use crate::problems::Problems;
use crate::{Object, decode};

/// What a resolver finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finds {
    /// Services of the cluster.
    Services,
    /// Services of Consul.
    Consul,
}

/// The resolvers that objects define.
#[derive(Debug, Default)]
pub(crate) struct Resolvers<'a> {
    /// By name and namespace.
    defined: HashMap<&'a str, HashMap<&'a str, Finds>>,
}

impl<'a> Resolvers<'a> {
    pub(crate) fn read(inventory: &Inventory<'a>, problems: &mut Problems) -> Self {
        let mut resolvers = Self::default();
        for &object in &inventory.resolvers {
            let finds = match object.kind.as_str() {
                "KubernetesServiceResolver" => {
                    decode::spec::<KubernetesServiceResolverSpec>(object, problems);
                    Finds::Services
                }
                "KubernetesEndpointResolver" => {
                    decode::spec::<KubernetesEndpointResolverSpec>(object, problems);
                    Finds::Services
                }
                _ => {
                    let message = "Consul is not supported, so Mappings with this resolver answer 503; use a KubernetesEndpointResolver";
                    problems.warning(object, "not_supported_yet", "", message);
                    Finds::Consul
                }
            };
            resolvers.define(object, finds);
        }
        resolvers
    }

    fn define(&mut self, object: &'a Object, finds: Finds) {
        let reference = &object.reference;
        let named = self.defined.entry(&reference.name).or_default();
        // Two of different kinds may have one name; the first in the order of loading counts.
        named.entry(&reference.namespace).or_insert(finds);
    }

    /// What the resolver `name` finds for an object of `namespace`: its own namespace's, else the gateway's, else any
    /// of that name, else a built-in one.
    pub(crate) fn find(&self, name: &str, namespace: &str, gateway: &str) -> Option<Finds> {
        if let Some(named) = self.defined.get(name) {
            let near = named.get(namespace).or_else(|| named.get(gateway));
            // Of several elsewhere, Consul's: nothing is sent to a place that was not meant.
            let any = || {
                let only = named.values().all(|finds| *finds == Finds::Services);
                if only { Finds::Services } else { Finds::Consul }
            };
            return Some(near.copied().unwrap_or_else(any));
        }
        match name {
            "kubernetes-service" | "kubernetes-endpoint" | "endpoint" => Some(Finds::Services),
            "consul" | "consul-endpoint" => Some(Finds::Consul),
            _ => None,
        }
    }
}
