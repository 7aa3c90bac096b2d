//! `TLSContext`: certificates and TLS parameters, for both directions.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Column, OneOrMany, Protection, Rule, Spec, Values};

/// What follows where a TLSContext does not say all that it should.
const UNUSABLE: &str = "the TLSContext cannot be used";

/// `spec` of a TLSContext.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsContextSpec {
    /// Which gateways it is for; `default` where absent.
    #[serde(alias = "ambassadorId")]
    pub ambassador_id: Option<OneOrMany>,
    /// Host names that it terminates TLS for; nothing to do with upstreams.
    pub hosts: Option<Vec<String>>,
    /// Secret with our certificate and key.
    pub secret: Option<String>,
    /// File with our certificate chain.
    pub cert_chain_file: Option<String>,
    /// File with our key.
    pub private_key_file: Option<String>,
    /// Secret with the CA of the other side.
    pub ca_secret: Option<String>,
    /// File with the CA of the other side.
    pub cacert_chain_file: Option<String>,
    /// Secret with a revocation list.
    pub crl_secret: Option<String>,
    /// File with a revocation list.
    pub crl_file: Option<String>,
    /// Protocols to offer, separated by commas.
    pub alpn_protocols: Option<String>,
    /// Clients must show a certificate; nothing to do with upstreams.
    pub cert_required: Option<bool>,
    /// `v1.0` to `v1.3`
    pub min_tls_version: Option<String>,
    /// `v1.0` to `v1.3`
    pub max_tls_version: Option<String>,
    /// TLS 1.2 suites by their OpenSSL names.
    pub cipher_suites: Option<Vec<String>>,
    /// Key-exchange groups.
    pub ecdh_curves: Option<Vec<String>>,
    /// Whether `name.namespace` names a Secret of another namespace.
    pub secret_namespacing: Option<bool>,
    /// Port whose cleartext requests are redirected; nothing to do with upstreams.
    pub redirect_cleartext_from: Option<i64>,
    /// Server name to send to upstreams.
    pub sni: Option<String>,
    /// The server name to send to upstreams, and where `verify` has no names the name to verify, is the
    /// authority of each request as it is sent; an addition of nuncio. Not beside `sni`.
    pub auto_sni: Option<bool>,
    /// How upstreams are verified.
    pub verify: Option<VerifySpec>,
}

impl Spec for TlsContextSpec {
    const KIND: &'static str = "TLSContext";
    const PLURAL: &'static str = "tlscontexts";
    const LATER: &'static [&'static str] = &[];
    const PROTECTS: &'static [Protection] = &[
        Protection::by_words(
            "verify",
            UNUSABLE,
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
                "crls",
                "key",
                "verify",
                "verification",
                "validate",
                "validation",
                "trust",
                "trusted",
                "truststore",
                "root",
                "roots",
                "pin",
                "pins",
                "san",
                "sans",
                "name",
                "names",
                "cipher",
                "ciphers",
                "curve",
                "curves",
                "group",
                "groups",
                "version",
                "secret",
                "sni",
                "server",
                "client",
                "peer",
                "insecure",
                "mode",
            ],
            "correct its name, or remove it",
        ),
        Protection::by_name("secret", UNUSABLE),
        Protection::by_name("cert_chain_file", UNUSABLE),
        Protection::by_name("private_key_file", UNUSABLE),
        Protection::by_name("ca_secret", UNUSABLE),
        Protection::by_name("cacert_chain_file", UNUSABLE),
        Protection::by_name("crl_secret", UNUSABLE),
        Protection::by_name("crl_file", UNUSABLE),
        Protection::by_name("cert_required", UNUSABLE),
        Protection::by_name("min_tls_version", UNUSABLE),
        Protection::by_name("max_tls_version", UNUSABLE),
        Protection::by_name("cipher_suites", UNUSABLE),
        Protection::by_name("ecdh_curves", UNUSABLE),
        Protection::by_name("sni", UNUSABLE),
        Protection::by_name("auto_sni", UNUSABLE),
        Protection::by_name("verify.mode", UNUSABLE),
        Protection::by_name("verify.names", UNUSABLE),
        Protection::by_name("verify.roots", UNUSABLE),
        Protection::by_name("verify.pins", UNUSABLE),
    ];
    const VALUES: &'static [(&'static str, Values)] = &[
        (
            "min_tls_version",
            Values::OneOf(&["v1.0", "v1.1", "v1.2", "v1.3"]),
        ),
        (
            "max_tls_version",
            Values::OneOf(&["v1.0", "v1.1", "v1.2", "v1.3"]),
        ),
        ("verify.mode", Values::OneOf(&["none", "report", "chain", "full"])),
        ("verify.roots", Values::OneOf(&["system"])),
    ];
    const RULES: &'static [Rule] = &[
        Rule {
            holds: "!has(self.min_tls_version) || !has(self.max_tls_version) \
                    || self.min_tls_version <= self.max_tls_version",
            message: "min_tls_version is above max_tls_version; lower the one or raise the other",
        },
        Rule {
            holds: "!(has(self.sni) && self.sni != '' && has(self.auto_sni) && self.auto_sni)",
            message: "sni and auto_sni both say which server name is sent; keep one of them",
        },
    ];
    const COLUMNS: &'static [Column] = &[
        Column::text("SNI", ".spec.sni"),
        Column::text("Verify", ".spec.verify.mode"),
        Column::text("Accepted", r#".status.conditions[?(@.type=="Accepted")].status"#),
        Column::text(
            "UpstreamTLS",
            r#".status.conditions[?(@.type=="UpstreamTLS")].status"#,
        ),
        Column::AGE,
    ];
    const OBJECTS: &'static [&'static str] = &["verify"];
    const NAMES: &'static [&'static str] = &[
        "alpn_protocols",
        "ca_secret",
        "crl_secret",
        "hosts",
        "max_tls_version",
        "min_tls_version",
        "secret",
        "sni",
        "verify.mode",
        "verify.names",
        "verify.pins",
        "verify.roots",
    ];
    const FORMS: &'static [(&'static str, &'static str)] = &[
        ("secret", "write the name of one Secret"),
        ("ca_secret", "write the name of one Secret"),
        ("crl_secret", "write the name of one Secret"),
        ("min_tls_version", "write v1.2 or v1.3"),
        ("max_tls_version", "write v1.2 or v1.3"),
        (
            "alpn_protocols",
            "write one string with commas, such as \"h2,http/1.1\"",
        ),
        ("sni", "write one DNS name"),
        ("verify", "write it as `verify: {mode: full}`"),
    ];
    const MISNOMERS: &'static [(&'static str, &'static str)] = &[
        ("secretName", "did you mean `secret`?"),
        ("tlsSecret", "did you mean `secret`?"),
        ("ca", "did you mean `ca_secret`?"),
        (
            "ca_cert",
            "put the certificate into a Secret, and name that in `ca_secret`",
        ),
        (
            "cert",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        (
            "certificate",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        (
            "client_cert",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        (
            "key",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        (
            "private_key",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        (
            "cert_chain",
            "put certificate and key into a Secret, and name that in `secret`",
        ),
        ("ciphers", "did you mean `cipher_suites`?"),
        ("curves", "did you mean `ecdh_curves`?"),
        ("groups", "did you mean `ecdh_curves`?"),
        ("crl", "did you mean `crl_secret`?"),
        ("server_name", "did you mean `sni`?"),
        ("secret_namespace", "write `secret: NAME.NAMESPACE`"),
        (
            "tls_version",
            "write `min_tls_version`, `max_tls_version` or both",
        ),
        (
            "skip_verify",
            "write `verify: {mode: none}` to accept every certificate",
        ),
        ("verify_mode", "write it as `spec.verify.mode`"),
        ("verify_subject_alt_names", "write it as `spec.verify.names`"),
        ("subject_alt_names", "write it as `spec.verify.names`"),
        ("alpn", "did you mean `alpn_protocols`?"),
        (
            "insecure",
            "write `verify: {mode: none}` to accept every certificate",
        ),
        (
            "insecure_skip_verify",
            "write `verify: {mode: none}` to accept every certificate",
        ),
        (
            "verify_server_cert",
            "write `verify: {mode: full}` to check chain and name",
        ),
    ];
}

/// `spec.verify` of a TLSContext: an addition of nuncio to the reference's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VerifySpec {
    /// `none`, `report`, `chain` or `full`.
    pub mode: Option<String>,
    /// DNS names, IP addresses or URIs; any one suffices.
    pub names: Option<Vec<String>>,
    /// `system`: the system's roots count as well.
    pub roots: Option<String>,
    /// `sha256/BASE64` of a SubjectPublicKeyInfo.
    pub pins: Option<Vec<String>>,
}
