//! `Listener`: a port.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Column, LabelSelector, OneOrMany, Spec, Values};

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
    const REQUIRED: &'static [&'static str] = &["hostBinding", "port", "securityModel"];
    const VALUES: &'static [(&'static str, Values)] = &[
        ("port", Values::Between(1, 65535)),
        (
            "protocol",
            Values::OneOf(&["HTTP", "HTTPS", "HTTPPROXY", "HTTPSPROXY", "TCP", "TLS", "UDP"]),
        ),
        (
            "protocolStack[0]",
            Values::OneOf(&["HTTP", "PROXY", "TLS", "TCP", "UDP"]),
        ),
        ("securityModel", Values::OneOf(&["XFP", "SECURE", "INSECURE"])),
        (
            "hostBinding.namespace.from",
            Values::OneOf(&["SELF", "ALL", "SELECTOR"]),
        ),
    ];
    const COLUMNS: &'static [Column] = &[
        Column::text("Port", ".spec.port"),
        Column::text("Protocol", ".spec.protocol"),
        Column::text("Stack", ".spec.protocolStack"),
        Column::text("StatsPrefix", ".spec.statsPrefix"),
        Column::text("Security", ".spec.securityModel"),
        Column::text("L7Depth", ".spec.l7Depth"),
    ];
    const OBJECTS: &'static [&'static str] =
        &["hostBinding", "hostBinding.namespace", "hostBinding.selector"];
    const NAMES: &'static [&'static str] = &["hostBinding.namespace.from", "protocol", "securityModel"];
    const FORMS: &'static [(&'static str, &'static str)] = &[
        ("port", "write a number between 1 and 65535, without quotes"),
        ("protocol", "write HTTP or HTTPS"),
        (
            "hostBinding",
            "write it as `hostBinding: {namespace: {from: ALL}}`, with SELF in place of ALL, or with a selector",
        ),
        (
            "hostBinding.namespace",
            "write it as `namespace: {from: ALL}` or with SELF",
        ),
        ("hostBinding.namespace.from", "write ALL or SELF"),
        (
            "hostBinding.selector",
            "write it as `selector: {matchLabels: {LABEL: VALUE}}`",
        ),
    ];
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
