//! What is watched in a cluster.

#[cfg(test)]
mod rights;

use kube::core::{ApiResource, GroupVersionKind};

/// A watched kind; its position in [`KINDS`] is its number everywhere in this module.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// When its watch begins.
    pub(crate) after: After,
    /// Objects of one page of a list. A Secret may be a megabyte.
    pub(crate) page: u32,
}

/// What must be known before a kind is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Start,
    /// The kinds that name Secrets: those that nobody names are not kept.
    Referrers,
    /// That the cluster has no EndpointSlices.
    NoSlices,
}

/// How compile and the API server call Secrets.
pub(crate) const SECRET: &str = "Secret";
/// And Services,
pub(crate) const SERVICE: &str = "Service";
/// and EndpointSlices.
pub(crate) const SLICE: &str = "EndpointSlice";

const OURS: &str = "getambassador.io";
const PAGE: u32 = 500;
const SECRETS_PAGE: u32 = 20;

const fn ours(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        group: OURS,
        version: "v3alpha1",
        kind,
        plural,
        after: After::Start,
        page: PAGE,
    }
}

const fn core(kind: &'static str, plural: &'static str, after: After, page: u32) -> Kind {
    Kind {
        group: "",
        version: "v1",
        kind,
        plural,
        after,
        page,
    }
}

/// Every kind that is watched. Those that compile does not read yet are watched too, so that their
/// owners are told.
pub(crate) const KINDS: [Kind; 17] = [
    ours("Mapping", "mappings"),
    ours("TLSContext", "tlscontexts"),
    ours("Host", "hosts"),
    ours("Listener", "listeners"),
    ours("Module", "modules"),
    ours("TCPMapping", "tcpmappings"),
    ours("KubernetesServiceResolver", "kubernetesserviceresolvers"),
    ours("KubernetesEndpointResolver", "kubernetesendpointresolvers"),
    ours("ConsulResolver", "consulresolvers"),
    ours("AuthService", "authservices"),
    ours("RateLimitService", "ratelimitservices"),
    ours("FilterPolicy", "filterpolicies"),
    ours("Filter", "filters"),
    core(SERVICE, "services", After::Start, PAGE),
    Kind {
        group: "discovery.k8s.io",
        version: "v1",
        kind: SLICE,
        plural: "endpointslices",
        after: After::Start,
        page: PAGE,
    },
    core("Endpoints", "endpoints", After::NoSlices, PAGE),
    core(SECRET, "secrets", After::Referrers, SECRETS_PAGE),
];

/// The number of a kind.
pub(crate) fn number_of(kind: &str) -> usize {
    KINDS
        .iter()
        .position(|known| known.kind == kind)
        .unwrap_or(KINDS.len())
}

impl Kind {
    /// Where its objects are in the API.
    pub(crate) fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }

    /// `mappings.getambassador.io`, as `kubectl` and RBAC call it.
    pub(crate) fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether the cluster knows it only once its definition is installed.
    pub(crate) fn is_ours(&self) -> bool {
        self.group == OURS
    }

    /// Whether it says at which addresses Services are.
    pub(crate) fn is_address(&self) -> bool {
        matches!(self.kind, SERVICE | "Endpoints" | SLICE)
    }

    /// Whether a cluster without its definition lacks something: nobody needs to have what few use.
    pub(crate) fn is_expected(&self) -> bool {
        let rare = ["AuthService", "RateLimitService", "FilterPolicy", "Filter"].contains(&self.kind)
            || self.kind.ends_with("Resolver");
        self.is_ours() && !rare
    }

    /// Whether it stands before requests. What cannot be read of it may forbid them, so nothing is served instead.
    pub(crate) fn is_guard(&self) -> bool {
        matches!(self.kind, "AuthService" | "FilterPolicy")
    }

    /// Whether it names Secrets; a Service does by the objects in its annotation.
    pub(crate) fn is_referrer(&self) -> bool {
        matches!(self.kind, "TLSContext" | "Host" | "Module" | "Service")
    }
}
