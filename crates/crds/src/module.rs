//! `Module`: settings for the whole gateway. Only the one named `ambassador` is read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{AddedHeader, NumberOrList, OneOrMany, Protection, RetryPolicySpec, Spec, Values};

/// What follows where the Module does not say which addresses may pass.
const NOBODY: &str = "every request is answered 503";

/// `spec` of the Module `ambassador`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
    /// The settings.
    pub config: Option<ModuleConfig>,
}

/// `spec.config` of the Module `ambassador`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleConfig {
    /// Days before the end of a certificate on which it is warned of: a number or a list of numbers, 0 or an
    /// empty list for never; an addition of nuncio.
    pub certificate_expiry_warning_days: Option<NumberOrList>,
    /// `timeout_ms` of Mappings that set none.
    pub cluster_request_timeout_ms: Option<i64>,
    /// Defaults for other kinds.
    pub defaults: Option<ModuleDefaults>,
    /// HTTP/1.0 is served.
    pub enable_http10: Option<bool>,
    /// Addresses whose requests pass; no others do.
    pub ip_allow: Option<serde_json::Value>,
    /// Addresses whose requests do not pass.
    pub ip_deny: Option<serde_json::Value>,
    /// How long a client connection may be idle.
    pub listener_idle_timeout_ms: Option<i64>,
    /// Most KiB of request headers.
    pub max_request_headers_kb: Option<i64>,
    /// `//` in a path becomes `/`.
    pub merge_slashes: Option<bool>,
    /// Bytes a second that the body of a request must bring, averaged over 30 s after 30 s; 1024 where it is not
    /// set, and 0 asks for no rate. An addition of nuncio.
    pub min_request_rate: Option<i64>,
    /// Keep a client's `x-request-id`.
    pub preserve_external_request_id: Option<bool>,
    /// A path with `%2F` or `%5C` is answered 400.
    pub reject_requests_with_escaped_slashes: Option<bool>,
    /// `resolver` of Mappings that have none.
    pub resolver: Option<String>,
    /// `retry_policy` of Mappings that have none.
    pub retry_policy: Option<RetryPolicySpec>,
    /// The `server` response header.
    pub server_name: Option<String>,
    /// The listener's own port is taken off the authority.
    pub strip_matching_host_port: Option<bool>,
    /// No `x-envoy-*` headers are added.
    pub suppress_envoy_headers: Option<bool>,
    /// TLS handshakes that a worker may have under way with one upstream; one that sends a second, smaller
    /// hello beside the first counts once. An addition of nuncio.
    pub upstream_max_handshakes: Option<i64>,
    /// Bare service names are looked up in the gateway's namespace, not in the Mapping's.
    pub use_ambassador_namespace_for_service_resolution: Option<bool>,
}

/// `spec.config.defaults` of the Module `ambassador`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleDefaults {
    /// `secret_namespacing` of TLSContexts that say nothing.
    pub tls_secret_namespacing: Option<bool>,
    /// `verify.mode` of upstreams that say nothing; an addition of nuncio.
    pub upstream_tls_verify_mode: Option<String>,
    /// For Mappings only; consulted before the same fields beside it.
    pub httpmapping: Option<HeaderDefaults>,
    /// Headers that requests get.
    pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that responses get.
    pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that are taken off requests.
    pub remove_request_headers: Option<Vec<String>>,
    /// Headers that are taken off responses.
    pub remove_response_headers: Option<Vec<String>>,
}

/// Defaults of the header edits of Mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderDefaults {
    /// Headers that requests get.
    pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that responses get.
    pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that are taken off requests.
    pub remove_request_headers: Option<Vec<String>>,
    /// Headers that are taken off responses.
    pub remove_response_headers: Option<Vec<String>>,
}

impl Spec for ModuleSpec {
    const KIND: &'static str = "Module";
    const PLURAL: &'static str = "modules";
    const LATER: &'static [&'static str] = &[
        "config.add_linkerd_headers",
        "config.admin_port",
        "config.allow_chunked_length",
        "config.auth_enabled",
        "config.buffer_limit_bytes",
        "config.circuit_breakers",
        "config.cluster_idle_timeout_ms",
        "config.cluster_max_connection_lifetime_ms",
        "config.cors",
        "config.debug_mode",
        "config.default_label_domain",
        "config.default_labels",
        "config.defaults.httpmapping.stats_name",
        "config.defaults.stats_name",
        "config.diag_port",
        "config.diagnostics",
        "config.enable_grpc_http11_bridge",
        "config.enable_grpc_web",
        "config.enable_ipv4",
        "config.enable_ipv6",
        "config.envoy_log_format",
        "config.envoy_log_path",
        "config.envoy_log_type",
        "config.envoy_validation_timeout",
        "config.error_response_overrides",
        "config.forward_client_cert_details",
        "config.grpc_stats",
        "config.gzip",
        "config.header_case_overrides",
        "config.headers_with_underscores_action",
        "config.keepalive",
        "config.liveness_probe",
        "config.load_balancer",
        "config.lua_scripts",
        "config.proper_case",
        "config.prune_unreachable_routes",
        "config.readiness_probe",
        "config.regex_max_size",
        "config.regex_type",
        "config.retry_policy.retry_back_off",
        "config.service_port",
        "config.set_current_client_cert_details",
        "config.statsd",
        "config.tls",
        "config.use_proxy_proto",
        "config.use_remote_address",
        "config.x_forwarded_proto_redirect",
        "config.xff_num_trusted_hops",
    ];
    const PROTECTS: &'static [Protection] = &[
        Protection::by_words(
            "config.ip_allow",
            NOBODY,
            &[
                "ip",
                "ips",
                "cidr",
                "cidrs",
                "whitelist",
                "allowlist",
                "blacklist",
                "denylist",
            ],
            "limit addresses in front of the gateway, and remove it",
        ),
        Protection::by_name("config.ip_deny", NOBODY),
        Protection::by_words(
            "config.defaults.upstream_tls_verify_mode",
            "`full` is used",
            &["verify", "verification"],
            "write `defaults: {upstream_tls_verify_mode: MODE}`",
        ),
    ];
    // The reference lets anything through here, and reads what it knows.
    const VALUES: &'static [(&'static str, Values)] = &[("config", Values::KnownNames)];
    const IDLE: &'static [(&'static str, &'static str)] = &[
        ("config.add_linkerd_headers", "false"),
        ("config.allow_chunked_length", "false"),
        ("config.debug_mode", "false"),
        ("config.enable_grpc_http11_bridge", "false"),
        ("config.enable_grpc_web", "false"),
        ("config.gzip.enabled", "false"),
        ("config.lua_scripts", "[]"),
        ("config.lua_scripts", "\"\""),
        ("config.proper_case", "false"),
        ("config.statsd.enabled", "false"),
        ("config.use_proxy_proto", "false"),
        ("config.use_remote_address", "true"),
        ("config.xff_num_trusted_hops", "0"),
    ];
    const OBJECTS: &'static [&'static str] = &[
        "config",
        "config.defaults",
        "config.defaults.httpmapping",
        "config.retry_policy",
    ];
    const NAMES: &'static [&'static str] = &["config.defaults.upstream_tls_verify_mode", "config.resolver"];
    const MISNOMERS: &'static [(&'static str, &'static str)] = &[
        (
            "config.request_timeout_ms",
            "did you mean `cluster_request_timeout_ms`?",
        ),
        (
            "config.timeout_ms",
            "write it as `spec.config.cluster_request_timeout_ms`",
        ),
        (
            "config.defaults.timeout_ms",
            "write it as `spec.config.cluster_request_timeout_ms`",
        ),
        (
            "config.defaults.httpmapping.timeout_ms",
            "write it as `spec.config.cluster_request_timeout_ms`",
        ),
    ];
    const FORMS: &'static [(&'static str, &'static str)] = &[
        ("config", "write the settings under it, as `name: value`"),
        (
            "config.defaults.upstream_tls_verify_mode",
            "write none, report, chain or full",
        ),
        (
            "config.retry_policy",
            "write it as `retry_policy: {retry_on: 5xx}`",
        ),
        (
            "config.retry_policy.retry_on",
            "write one of 5xx, gateway-error, connect-failure, retriable-4xx, refused-stream, retriable-status-codes",
        ),
        (
            "config.retry_policy.per_try_timeout",
            "write a number and a unit, such as 250ms or 1.5s",
        ),
    ];
}
