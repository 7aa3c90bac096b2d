//! `EndpointSlice` of `discovery.k8s.io/v1`.

use serde::Deserialize;

use crate::EndpointPort;

/// Label that names the Service of a slice.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A part of the endpoints of the Service that [`SERVICE_NAME_LABEL`] names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Option<String>,
    /// The endpoints.
    pub endpoints: Option<Vec<SliceEndpoint>>,
    /// Their ports.
    pub ports: Option<Vec<EndpointPort>>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SliceEndpoint {
    /// Its addresses; they are one endpoint, so the first stands for all.
    pub addresses: Option<Vec<String>>,
    /// Its state.
    pub conditions: Option<EndpointConditions>,
}

/// State of an endpoint. What is absent is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// May get traffic; unknown counts as yes.
    pub ready: Option<bool>,
    /// Would be ready if it were not about to end; as `ready` where unknown.
    pub serving: Option<bool>,
    /// Is about to end.
    pub terminating: Option<bool>,
}
