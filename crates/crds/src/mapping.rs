//! `Mapping`: a route and its upstream.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Column, OneOrMany, Protection, Rule, Spec, Values};

/// What follows where a Mapping does not say which TLSContext it uses.
const NO_TLS: &str = "its requests are answered 503";
/// What follows where a Mapping does not say which requests it takes: it would take more than it was meant to.
const NO_ROUTE: &str = "the Mapping has no route";

/// `spec` of a Mapping. Durations that end in `_ms` are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MappingSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
    /// What the path must begin with. Required.
    pub prefix: Option<String>,
    /// `prefix` is a regular expression that must match the whole path.
    pub prefix_regex: Option<bool>,
    /// `prefix` is the whole path.
    pub prefix_exact: Option<bool>,
    /// Whether letter case matters in `prefix`; it does where absent.
    pub case_sensitive: Option<bool>,
    /// Glob that the authority must match.
    pub hostname: Option<String>,
    /// Older form of `hostname`, without glob.
    pub host: Option<String>,
    /// `host` is a regular expression.
    pub host_regex: Option<bool>,
    /// Method that the request must have.
    pub method: Option<String>,
    /// `method` is a regular expression.
    pub method_regex: Option<bool>,
    /// Headers and the values they must have.
    pub headers: Option<BTreeMap<String, String>>,
    /// Headers and the expressions that their values must match.
    pub regex_headers: Option<BTreeMap<String, String>>,
    /// Query parameters and the values they must have.
    pub query_parameters: Option<BTreeMap<String, String>>,
    /// Query parameters and the expressions that their values must match.
    pub regex_query_parameters: Option<BTreeMap<String, String>>,
    /// Higher is tried first, before anything else counts.
    pub precedence: Option<i64>,
    /// Where requests go: `[scheme://]host[:port]`. Required.
    pub service: Option<String>,
    /// TLSContext for the connection to `service`.
    pub tls: Option<String>,
    /// How `service` becomes addresses.
    pub resolver: Option<String>,
    /// For DNS, TCP and TLS together.
    pub connect_timeout_ms: Option<i64>,
    /// For the whole exchange; 0 means no limit.
    pub timeout_ms: Option<i64>,
    /// Share of the group's traffic, percent.
    pub weight: Option<i64>,
    /// What stands in place of `prefix` upstream; `/` where absent, empty for no change.
    pub rewrite: Option<String>,
    /// Rewrites the path by an expression instead.
    pub regex_rewrite: Option<RegexRewrite>,
    /// Authority that is sent upstream.
    pub host_rewrite: Option<String>,
    /// The authority that is sent upstream is the name of the chosen endpoint: an `externalName`, else the host
    /// of `service`, without port. The server name of TLS stays the one that is configured.
    pub auto_host_rewrite: Option<bool>,
    /// When a request is sent again.
    pub retry_policy: Option<RetryPolicySpec>,
    /// Headers that requests get.
    pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that responses get.
    pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
    /// Headers that are taken off requests.
    pub remove_request_headers: Option<Vec<String>>,
    /// Headers that are taken off responses.
    pub remove_response_headers: Option<Vec<String>>,
    /// Protocols that a request may upgrade to, such as `websocket`.
    pub allow_upgrade: Option<Vec<String>>,
    /// Older form of `allow_upgrade: [websocket]`; being there is what counts.
    pub use_websocket: Option<bool>,
    /// No AuthService is asked whether the requests may pass.
    pub bypass_auth: Option<bool>,
    /// HTTP/2 is spoken upstream.
    pub grpc: Option<bool>,
    /// The requests are answered with a redirect to `service`.
    pub host_redirect: Option<bool>,
    /// The requests are copied to `service`, and its answers thrown away.
    pub shadow: Option<bool>,
}

impl Spec for MappingSpec {
    const KIND: &'static str = "Mapping";
    const PLURAL: &'static str = "mappings";
    const LATER: &'static [&'static str] = &[
        "add_linkerd_headers",
        "auth_context_extensions",
        "bypass_error_response_overrides",
        "circuit_breakers",
        "cluster_idle_timeout_ms",
        "cluster_max_connection_lifetime_ms",
        "cluster_tag",
        "cors",
        "dns_type",
        "docs",
        "enable_ipv4",
        "enable_ipv6",
        "envoy_override",
        "error_response_overrides",
        "health_checks",
        "idle_timeout_ms",
        "keepalive",
        "labels",
        "load_balancer",
        "modules",
        "outlier_detection",
        "path_redirect",
        "prefix_redirect",
        "priority",
        "redirect_response_code",
        "regex_redirect",
        "respect_dns_ttl",
        "retry_policy.retry_back_off",
        "stats_name",
    ];
    const PROTECTS: &'static [Protection] = &[
        Protection::by_words(
            "tls",
            NO_TLS,
            &[
                "tls",
                "ssl",
                "mtls",
                "cert",
                "certs",
                "certificate",
                "certificates",
                "ca",
                "cacert",
                "crl",
                "sni",
                "verify",
                "verification",
                "cipher",
                "ciphers",
                "pin",
                "pins",
                "insecure",
                "secret",
            ],
            "write what it says into a TLSContext, and name that in `tls`",
        ),
        Protection::by_name("hostname", NO_ROUTE),
        Protection::by_name("host", NO_ROUTE),
        Protection::by_name("host_regex", NO_ROUTE),
        Protection::by_name("method", NO_ROUTE),
        Protection::by_name("method_regex", NO_ROUTE),
        Protection::by_name("headers", NO_ROUTE),
        Protection::by_name("regex_headers", NO_ROUTE),
        Protection::by_words(
            "query_parameters",
            NO_ROUTE,
            &["query"],
            "did you mean `query_parameters`?",
        ),
        Protection::by_name("regex_query_parameters", NO_ROUTE),
    ];
    const NOTES: &'static [&'static str] = &["v2BoolHeaders", "v2BoolQueryParameters", "v2ExplicitTLS"];
    const REQUIRED: &'static [&'static str] = &["prefix", "service"];
    const VALUES: &'static [(&'static str, Values)] = &[(
        "retry_policy.retry_on",
        Values::OneOf(&[
            "5xx",
            "gateway-error",
            "connect-failure",
            "retriable-4xx",
            "refused-stream",
            "retriable-status-codes",
        ]),
    )];
    const RULES: &'static [Rule] = &[Rule {
        holds: "!(has(self.host_rewrite) && self.host_rewrite != '' \
                && has(self.auto_host_rewrite) && self.auto_host_rewrite)",
        message: "host_rewrite and auto_host_rewrite both say which host is sent; keep one of them",
    }];
    const COLUMNS: &'static [Column] = &[
        Column::text("Source Host", ".spec.hostname"),
        Column::text("Source Prefix", ".spec.prefix"),
        Column::text("Dest Service", ".spec.service"),
        Column::text("State", ".status.state"),
        Column::text("Reason", ".status.reason"),
    ];
    const IDLE: &'static [(&'static str, &'static str)] = &[
        ("add_linkerd_headers", "false"),
        ("bypass_error_response_overrides", "false"),
        ("respect_dns_ttl", "false"),
    ];
    const OBJECTS: &'static [&'static str] = &["regex_rewrite", "retry_policy"];
    const NAMES: &'static [&'static str] = &[
        "host",
        "host_rewrite",
        "hostname",
        "method",
        "resolver",
        "retry_policy.per_try_timeout",
        "retry_policy.retry_on",
        "service",
        "tls",
    ];
    const FORMS: &'static [(&'static str, &'static str)] = &[
        ("prefix", "write one path, which begins with `/`"),
        (
            "hostname",
            "write one host name, such as a.example.com, or \"*\" for all",
        ),
        ("host", "write one host name, such as a.example.com"),
        (
            "method",
            "write one method, or several as in `method: \"GET|POST\"` with `method_regex: true`",
        ),
        ("service", "write one, in the form [scheme://]host[:port]"),
        (
            "tls",
            "to encrypt, write `https://` before the host in `spec.service` or name a TLSContext here, else remove it",
        ),
        (
            "rewrite",
            "write a path, or \"\" to send the path as it came, or remove it to have `prefix` replaced by `/`",
        ),
        ("host_rewrite", "write a host name"),
        (
            "regex_rewrite",
            "write it as `regex_rewrite: {pattern: EXPRESSION, substitution: TEXT}`",
        ),
        ("retry_policy", "write it as `retry_policy: {retry_on: 5xx}`"),
        (
            "retry_policy.retry_on",
            "write one of 5xx, gateway-error, connect-failure, retriable-4xx, refused-stream, retriable-status-codes",
        ),
        (
            "retry_policy.per_try_timeout",
            "write a number and a unit, such as 250ms or 1.5s",
        ),
        ("allow_upgrade", "write a list, such as `[websocket]`"),
    ];
    const MISNOMERS: &'static [(&'static str, &'static str)] = &[
        ("path", "did you mean `prefix`?"),
        ("paths", "did you mean `prefix`?"),
        ("hosts", "did you mean `hostname`?"),
        ("domain", "did you mean `hostname`?"),
        ("domains", "did you mean `hostname`?"),
        ("methods", "did you mean `method`?"),
        ("backend", "did you mean `service`?"),
        ("destination", "did you mean `service`?"),
        ("target", "did you mean `service`?"),
        ("upstream", "did you mean `service`?"),
        ("uri", "did you mean `service`?"),
        ("url", "did you mean `service`?"),
        ("port", "write the port into `service`, after a `:`"),
        ("protocol", "write the scheme into `service`, before `://`"),
        ("scheme", "write the scheme into `service`, before `://`"),
        ("timeout", "did you mean `timeout_ms`?"),
        ("connect_timeout", "did you mean `connect_timeout_ms`?"),
        (
            "retries",
            "write `retry_policy: {retry_on: 5xx, num_retries: NUMBER}`",
        ),
        ("websocket", "write `allow_upgrade: [websocket]`"),
        ("websockets", "write `allow_upgrade: [websocket]`"),
        ("upgrade", "did you mean `allow_upgrade`?"),
        ("add_headers", "did you mean `add_request_headers`?"),
        ("remove_headers", "did you mean `remove_request_headers`?"),
        ("headers_regex", "did you mean `regex_headers`?"),
        ("host_header", "did you mean `host_rewrite`?"),
        ("auto_host", "did you mean `auto_host_rewrite`?"),
        ("rewrite_path", "did you mean `rewrite`?"),
        (
            "strip_prefix",
            "remove it, because `prefix` is replaced by `/` unless `rewrite` says something else",
        ),
        ("http2", "write `grpc: true` to speak HTTP/2 to the service"),
        ("enable_grpc", "did you mean `grpc`?"),
        ("canary", "write `weight`, the percentage of the requests"),
        (
            "services",
            "write one `service`, and a Mapping with `weight` for each of the others",
        ),
        ("service_port", "write the port into `service`, after a `:`"),
        (
            "ssl",
            "write `https://` before the host in `service`, or name a TLSContext in `tls`",
        ),
        ("tls_context", "write the name of the TLSContext into `tls`"),
        ("retry_policy.timeout", "did you mean `per_try_timeout`?"),
        ("retry_policy.retries", "did you mean `num_retries`?"),
    ];
}

/// `retry_policy` of a Mapping, and of the Module for Mappings that have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetryPolicySpec {
    /// `5xx`, `gateway-error`, `connect-failure`, `retriable-4xx`, `refused-stream` or `retriable-status-codes`.
    /// Required.
    pub retry_on: Option<String>,
    /// How often it is sent again at most; once where absent.
    pub num_retries: Option<i64>,
    /// For one attempt up to the head of its response, such as `250ms`; the whole `timeout_ms` where absent.
    pub per_try_timeout: Option<String>,
}

/// `regex_rewrite` of a Mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegexRewrite {
    /// Every match in the path is replaced.
    pub pattern: Option<String>,
    /// Replacement; `\1` stands for the first group.
    pub substitution: Option<String>,
}

/// The value of a header to add.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum AddedHeader {
    /// The value; one that is there already is kept.
    Value(String),
    /// The value, and whether one that is there already is kept.
    Detailed(DetailedHeader),
}

/// By hand, so that what is wrong inside of the long form is found there.
impl<'de> Deserialize<'de> for AddedHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = AddedHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with `value` and `append`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<AddedHeader, E> {
                Ok(AddedHeader::Value(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AddedHeader, A::Error> {
                DetailedHeader::deserialize(MapAccessDeserializer::new(map)).map(AddedHeader::Detailed)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The long form of a header to add.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailedHeader {
    /// The value.
    pub value: String,
    /// Keep a value that is there already; it is kept where absent.
    pub append: Option<bool>,
    /// What conversion from v2 remembers.
    #[serde(rename = "v2Representation")]
    pub v2_representation: Option<String>,
}

impl AddedHeader {
    /// The value.
    pub fn value(&self) -> &str {
        match self {
            Self::Value(value) => value,
            Self::Detailed(header) => &header.value,
        }
    }

    /// Whether a value that is there already is kept.
    pub fn append(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::Detailed(header) => header.append.unwrap_or(true),
        }
    }
}
