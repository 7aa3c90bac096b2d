//! Resolvers: how the host of a `service` becomes addresses. Nuncio sends to the ready endpoints of a Service with
//! either kind, so neither has more to say than its name.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{OneOrMany, Spec};

/// `spec` of a KubernetesServiceResolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KubernetesServiceResolverSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
}

impl Spec for KubernetesServiceResolverSpec {
    const KIND: &'static str = "KubernetesServiceResolver";
    const PLURAL: &'static str = "kubernetesserviceresolvers";
    const LATER: &'static [&'static str] = &[];
}

/// `spec` of a KubernetesEndpointResolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KubernetesEndpointResolverSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
}

impl Spec for KubernetesEndpointResolverSpec {
    const KIND: &'static str = "KubernetesEndpointResolver";
    const PLURAL: &'static str = "kubernetesendpointresolvers";
    const LATER: &'static [&'static str] = &[];
}
