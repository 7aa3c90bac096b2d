//! `Listener`: a port.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{LabelSelector, OneOrMany, Spec};

/// `spec` of a Listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(rename = "ambassador_id", alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
    /// TCP port. Required.
    pub port: Option<i64>,
    /// `HTTP`, `HTTPS`, `HTTPPROXY`, `HTTPSPROXY`, `TCP` or `TLS`.
    pub protocol: Option<String>,
    /// The layers one by one, outermost last; wins over `protocol`.
    pub protocol_stack: Option<Vec<String>>,
    /// `XFP`, `SECURE` or `INSECURE`. Required.
    pub security_model: Option<String>,
    /// Trusted proxies in front.
    pub l7_depth: Option<i64>,
    /// Which Hosts belong to it. Required.
    pub host_binding: Option<HostBinding>,
}

impl Spec for ListenerSpec {
    const KIND: &'static str = "Listener";
    const PLURAL: &'static str = "listeners";
    const LATER: &'static [&'static str] = &["http2MaxConcurrentStreams", "statsPrefix"];
}

/// `spec.hostBinding` of a Listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostBinding {
    /// By namespace.
    pub namespace: Option<NamespaceBinding>,
    /// By labels.
    pub selector: Option<LabelSelector>,
}

/// `spec.hostBinding.namespace` of a Listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NamespaceBinding {
    /// `SELF` or `ALL`.
    pub from: Option<String>,
}
