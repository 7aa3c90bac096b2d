//! `Host`: a virtual host.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Column, LabelSelector, OneOrMany, Protection, Rule, Spec, Values};

/// What follows where a Host does not say what it is for: it would be for everything.
const NOT_SERVED: &str = "the Host is not served";

/// `spec` of a Host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HostSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(rename = "ambassador_id", alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
    /// Name of the virtual host; `*` where absent.
    pub hostname: Option<String>,
    /// Which Mappings belong to it.
    pub mapping_selector: Option<LabelSelector>,
    /// Older name of `mappingSelector`.
    pub selector: Option<LabelSelector>,
    /// Server certificate.
    pub tls_secret: Option<SecretReference>,
    /// TLSContext with the settings for termination.
    pub tls_context: Option<NameReference>,
    /// Settings for termination in place.
    pub tls: Option<serde_json::Value>,
    /// What happens to insecure requests.
    pub request_policy: Option<RequestPolicy>,
}

impl Spec for HostSpec {
    const KIND: &'static str = "Host";
    const PLURAL: &'static str = "hosts";
    const LATER: &'static [&'static str] = &["acmeProvider", "previewUrl"];
    const PROTECTS: &'static [Protection] = &[
        Protection::by_words(
            "hostname",
            NOT_SERVED,
            &["host", "hosts", "domain", "domains"],
            "did you mean `hostname`?",
        ),
        Protection::by_words(
            "mappingSelector",
            NOT_SERVED,
            &["selector", "labels"],
            "did you mean `mappingSelector`?",
        ),
        Protection::by_name("selector", NOT_SERVED),
    ];
    const VALUES: &'static [(&'static str, Values)] = &[
        (
            "requestPolicy.insecure.action",
            Values::OneOf(&["Redirect", "Reject", "Route"]),
        ),
        ("tls", Values::AnyObject),
    ];
    const RULES: &'static [Rule] = &[Rule {
        holds: "!(has(self.tls) && has(self.tlsContext))",
        message: "tls and tlsContext both give settings for termination; keep one of them",
    }];
    const COLUMNS: &'static [Column] = &[
        Column::text("Hostname", ".spec.hostname"),
        Column::text("Accepted", r#".status.conditions[?(@.type=="Accepted")].status"#),
        Column::AGE,
    ];
    const IDLE: &'static [(&'static str, &'static str)] = &[
        ("acmeProvider.authority", "\"none\""),
        ("previewUrl.enabled", "false"),
    ];
    const OBJECTS: &'static [&'static str] = &[
        "mappingSelector",
        "requestPolicy",
        "requestPolicy.insecure",
        "selector",
        "tlsContext",
        "tlsSecret",
    ];
    const NAMES: &'static [&'static str] = &[
        "hostname",
        "requestPolicy.insecure.action",
        "tlsContext.name",
        "tlsSecret.name",
        "tlsSecret.namespace",
    ];
    const FORMS: &'static [(&'static str, &'static str)] = &[
        (
            "hostname",
            "write one host name, such as a.example.com, or \"*\" for all",
        ),
        ("tlsSecret", "write it as `tlsSecret: {name: NAME}`"),
        ("tlsContext", "write it as `tlsContext: {name: NAME}`"),
        (
            "requestPolicy",
            "write it as `requestPolicy: {insecure: {action: Redirect}}`",
        ),
        (
            "requestPolicy.insecure",
            "write it as `insecure: {action: Redirect}`",
        ),
        (
            "requestPolicy.insecure.additionalPort",
            "write a Listener for that port, and remove it",
        ),
        (
            "mappingSelector",
            "write it as `mappingSelector: {matchLabels: {LABEL: VALUE}}`",
        ),
        (
            "selector",
            "write it as `selector: {matchLabels: {LABEL: VALUE}}`",
        ),
    ];
    const MISNOMERS: &'static [(&'static str, &'static str)] = &[
        (
            "requestPolicy.secure",
            "remove it, because requests over TLS are routed in any case",
        ),
        ("secret", "write `tlsSecret: {name: NAME}`"),
        ("tlsSecretName", "write `tlsSecret: {name: NAME}`"),
        ("acme", "did you mean `acmeProvider`?"),
        (
            "redirect",
            "write `requestPolicy: {insecure: {action: Redirect}}`",
        ),
        ("secretName", "write `tlsSecret: {name: NAME}`"),
    ];
}

/// Names a Secret, here or elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SecretReference {
    /// Its name.
    pub name: Option<String>,
    /// Its namespace; the Host's where absent.
    pub namespace: Option<String>,
}

/// Names an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NameReference {
    /// Its name.
    pub name: Option<String>,
}

/// `spec.requestPolicy` of a Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RequestPolicy {
    /// For requests that did not come over TLS.
    pub insecure: Option<InsecurePolicy>,
}

/// `spec.requestPolicy.insecure` of a Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct InsecurePolicy {
    /// `Redirect`, `Route` or `Reject`; `Redirect` where absent.
    pub action: Option<String>,
    /// Another port with insecure requests.
    pub additional_port: Option<i64>,
}
