//! A configuration with a bit of everything, and a proxy that tells what it is told to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::Method;
use nuncio_model::*;
use zeroize::Zeroizing;

use crate::About;

/// Bytes of a private key, which must turn up nowhere.
pub(super) const KEY: &[u8] = b"PRIVATE-KEY-BYTES";

/// The value of conditions on credentials, which must turn up nowhere either.
pub(super) const CREDENTIAL: &str = "CREDENTIAL-OF-A-CONDITION";

pub(super) fn about() -> About {
    About {
        version: "1.2.3".into(),
        hostname: "gateway-0".into(),
        ambassador_id: "default".into(),
        namespace: "ambassador".into(),
        single_namespace: false,
        mode: "file",
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

pub(super) struct FakeProxy {
    pub(super) alive: AtomicBool,
    pub(super) ready: AtomicBool,
    /// Bytes of metrics besides the revision.
    padding: AtomicUsize,
}

impl FakeProxy {
    /// From now on the metrics are so large.
    pub(super) fn metrics_of(&self, bytes: usize) {
        self.padding.store(bytes, Ordering::Relaxed);
    }
}

impl Default for FakeProxy {
    fn default() -> Self {
        Self {
            alive: true.into(),
            ready: true.into(),
            padding: 0.into(),
        }
    }
}

impl Live for FakeProxy {
    fn upstream(&self, _snapshot: &Snapshot, index: UpstreamIndex) -> UpstreamStatus {
        if index != UpstreamIndex(0) {
            return UpstreamStatus::default();
        }
        let endpoint = |address: &str, active| EndpointStatus {
            address: address.into(),
            active,
            idle: 1,
            last_handshake: Some(Arc::new(handshake())),
            remembered: None,
        };
        UpstreamStatus {
            endpoints: vec![endpoint("10.0.0.1:443", 2), endpoint("10.0.0.2:443", 0)],
            failures: vec![
                ("name_mismatch".into(), 7),
                ("alert_received:unknown_ca".into(), 1),
            ],
        }
    }

    fn metrics(&self, snapshot: &Snapshot) -> String {
        let padding = "#".repeat(self.padding.load(Ordering::Relaxed));
        format!("nuncio_config_revision {}\n{padding}", snapshot.revision)
    }

    fn problems(&self, _: &Snapshot) -> Vec<Problem> {
        let object = Some(ObjectRef::new("Listener", "default", "http"));
        vec![problem(
            Severity::Error,
            "port_taken",
            "another program holds port 8080; stop it",
            object,
        )]
    }

    fn alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

pub(super) fn certificate(subject: &str, sha256: &str) -> CertificateInfo {
    CertificateInfo {
        subject: subject.into(),
        issuer: "CN=ca".into(),
        sans: vec!["DNS:a.test".into()],
        not_before: "2026-01-01T00:00:00Z".into(),
        not_after: "2027-01-01T00:00:00Z".into(),
        not_before_seconds: 1_767_225_600,
        not_after_seconds: 1_798_761_600,
        sha256: sha256.into(),
        pin: "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into(),
    }
}

pub(super) fn handshake() -> HandshakeReport {
    HandshakeReport {
        outcome: Outcome::Failed(Reason::NameMismatch),
        message: "the certificate is for a.test".into(),
        remedy: "set verify.names".into(),
        at: "2026-02-03T04:05:06Z".into(),
        sni: Some("svc.test".into()),
        version: Some(TlsVersion::V1_3),
        cipher: Some("TLS_AES_128_GCM_SHA256".into()),
        group: Some("X25519".into()),
        alpn: None,
        resumed: false,
        hello_retried: false,
        duration_ms: 3.5,
        client_certificate: ClientCertificateReport {
            requested: true,
            sent: true,
        },
        verify: VerifyReport {
            mode: VerifyMode::Full,
            result: Outcome::Failed(Reason::NameMismatch),
            names: vec!["svc.test".into()],
        },
        peer: vec![certificate("CN=peer", "aa"), certificate("CN=intermediate", "bb")],
    }
}

pub(super) fn mapping(name: &str) -> ObjectRef {
    ObjectRef::new("Mapping", "default", name)
}

fn problem(severity: Severity, reason: &'static str, message: &str, object: Option<ObjectRef>) -> Problem {
    let field = object.as_ref().map(|_| "spec.tls".to_owned());
    Problem {
        severity,
        reason: reason.into(),
        message: message.into(),
        object,
        field,
        place: None,
    }
}

fn settings() -> TlsSettings {
    TlsSettings {
        sni: Some("svc.test".into()),
        auto_sni: AutoSni::Off,
        verify: Verify {
            mode: VerifyMode::Full,
            names: [
                VerifyName::Dns("svc.test".into()),
                VerifyName::Uri("spiffe://a/b".into()),
            ]
            .into(),
            roots: Roots {
                bundle: Some(Arc::new(TrustBundle {
                    anchors: vec![vec![1], vec![2]],
                    digest: [0xab; 32],
                })),
                system: false,
            },
            crls: Some(Arc::new(CrlSet {
                lists: vec![Crl {
                    der: vec![3],
                    signer: vec![4],
                    next_update: None,
                }],
                digest: [0xef; 32],
            })),
            pins: [Pin([0; 32])].into(),
        },
        client: Some(Arc::new(ClientIdentity {
            chain: vec![b"leaf".to_vec(), b"intermediate".to_vec()],
            key: PrivateKey::Pkcs8(Zeroizing::new(KEY.to_vec())),
            digest: [0xcd; 32],
        })),
        min_version: TlsVersion::V1_3,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: ["X25519"].into(),
        alpn: [Alpn::H2, Alpn::Http1].into(),
        foreign_alpn: [].into(),
    }
}

fn origins() -> TlsOrigins {
    let context = ObjectRef::new("TLSContext", "default", "ctx");
    let field = |name: &str| Origin::Field {
        object: context.clone(),
        field: name.into(),
    };
    TlsOrigins {
        enabled: Origin::Field {
            object: mapping("a"),
            field: "spec.service".into(),
        },
        context: Some(context.clone()),
        stale: true,
        sni: field("spec.sni"),
        auto_sni: None,
        verify_mode: Origin::Environment("NUNCIO_UPSTREAM_VERIFY_MODE".into()),
        verify_names: field("spec.verify.names"),
        roots: field("spec.ca_secret"),
        crl: Some(field("spec.crl_secret")),
        pins: Some(field("spec.verify.pins")),
        client_certificate: Some(field("spec.secret")),
        min_version: field("spec.min_tls_version"),
        max_version: Origin::BuiltIn,
        cipher_suites: Origin::BuiltIn,
        groups: field("spec.ecdh_curves"),
        alpn: Origin::Module("defaults.alpn".into()),
    }
}

fn upstreams() -> Vec<Arc<Upstream>> {
    let secure = Identity {
        host: UpstreamHost::Name("svc.test".into()),
        port: 443,
        resolve: Resolve::Service(ServiceKey {
            namespace: "default".into(),
            name: "svc".into(),
            port: 443,
        }),
        tls: Some(Arc::new(settings())),
        http: UpstreamHttp::Negotiated,
    };
    let plain = Identity {
        host: UpstreamHost::Ip("::1".parse().unwrap()),
        port: 8080,
        resolve: Resolve::Fixed(["[::1]:8080".parse().unwrap()].into()),
        tls: None,
        http: UpstreamHttp::Http1,
    };
    vec![
        Arc::new(Upstream {
            name: "https://svc.test:443 (ctx.default)".into(),
            identity: Arc::new(secure),
            mappings: vec![mapping("a"), mapping("b")],
            origins: Some(origins()),
            other_origins: vec![OtherOrigins {
                mappings: vec![mapping("b")],
                origins: TlsOrigins {
                    context: Some(ObjectRef::new("TLSContext", "team", "other")),
                    ..origins()
                },
            }],
        }),
        Arc::new(Upstream {
            name: "http://[::1]:8080".into(),
            identity: Arc::new(plain),
            mappings: vec![mapping("b")],
            origins: None,
            other_origins: Vec::new(),
        }),
    ]
}

fn forward(upstream: u32) -> Action {
    Action::Forward(Box::new(Forward {
        upstream: UpstreamIndex(upstream),
        rewrite: Rewrite::None,
        host_rewrite: None,
        retry: None,
        timeout: None,
        connect_timeout: Duration::from_secs(3),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        allow_upgrade: Vec::new(),
        bypass_auth: false,
        grpc: false,
    }))
}

fn target(name: &str, share_end: u8, action: Action) -> Target {
    Target {
        mapping: mapping(name),
        label: format!("{name}.default").into(),
        share_end,
        action,
    }
}

/// A canary of two Mappings, then one with every other kind of condition that cannot be served.
fn routes() -> RouteTable {
    let shared = RouteMatch {
        precedence: 0,
        authority: AuthorityMatch::Any,
        path: PathMatch::Prefix {
            text: "/a/".into(),
            case_sensitive: false,
        },
        method: Some(MethodMatch::Exact(Method::GET)),
        headers: Vec::new(),
        query: Vec::new(),
    };
    let pattern = |text| Pattern::full(text, 1 << 16).unwrap();
    let header = |name: &str, value| HeaderMatch {
        name: name.parse().unwrap(),
        value,
    };
    let odd = RouteMatch {
        precedence: -1,
        authority: AuthorityMatch::Suffix(".test".into()),
        path: PathMatch::Regex(pattern("/x/[0-9]+")),
        method: Some(MethodMatch::Regex(pattern("GET|PUT"))),
        headers: vec![
            header("x-exact", ValueMatch::Exact(http::HeaderValue::from_static("1"))),
            header("x-present", ValueMatch::Present),
            header("x-regex", ValueMatch::Regex(pattern("a.*"))),
            header(
                "authorization",
                ValueMatch::Exact(http::HeaderValue::from_static(CREDENTIAL)),
            ),
            header("x-api-key", ValueMatch::Regex(pattern(CREDENTIAL))),
        ],
        query: vec![
            QueryMatch {
                name: "access_token".into(),
                value: ValueMatch::Exact(CREDENTIAL.into()),
            },
            QueryMatch {
                name: "q".into(),
                value: ValueMatch::Exact("v".into()),
            },
            QueryMatch {
                name: "r".into(),
                value: ValueMatch::Regex(pattern("w")),
            },
        ],
    };
    let unresolved = Unresolved {
        reason: Reason::TlsConfigUnresolved,
        message: "no TLSContext nosuch".into(),
    };
    RouteTable::new(vec![
        Arc::new(Route {
            matches: shared,
            targets: vec![target("a", 30, forward(0)), target("b", 100, forward(1))],
        }),
        Arc::new(Route {
            matches: odd,
            targets: vec![target("c", 100, Action::Unresolved(unresolved))],
        }),
    ])
}

pub(super) fn snapshot() -> Snapshot {
    let routes = Arc::new(routes());
    let host = |hostname: &str, insecure| {
        Arc::new(VirtualHost {
            object: None,
            hostname: hostname.into(),
            insecure,
            routes: Arc::clone(&routes),
        })
    };
    let listener = Listener {
        object: None,
        name: "http-8080".into(),
        port: 8080,
        security_model: SecurityModel::Xfp,
        l7_depth: 0,
        hosts: HostTable::new(vec![
            host("*.test", InsecureAction::Redirect),
            host("*", InsecureAction::Route),
        ]),
    };
    let placed = Problem {
        place: Some(Place {
            file: "m.yaml".into(),
            line: 12,
            column: 3,
        }),
        ..problem(
            Severity::Error,
            "unknown_tls_context",
            "no TLSContext nosuch; create it",
            Some(mapping("c")),
        )
    };
    let loaded = |role, subject: &str, sha256: &str| LoadedCertificate {
        role,
        info: Arc::new(certificate(subject, sha256)),
        from: "Secret s.default, tls.crt".into(),
        namespace: "default".into(),
        secret: "s".into(),
    };
    Snapshot {
        revision: 42,
        listeners: vec![Arc::new(listener)],
        guards: Guards::default(),
        upstreams: upstreams(),
        certificates: vec![
            loaded(CertificateRole::Client, "CN=client", LEAF),
            loaded(CertificateRole::Ca, "CN=ca", "cc"),
        ],
        problems: [
            placed,
            problem(Severity::Warning, "unknown_field", "the file has no kind", None),
            problem(
                Severity::Notice,
                "listener_opened",
                "opened 8080",
                Some(mapping("a")),
            ),
        ]
        .into(),
        settings: Settings::default(),
        compiled: None,
    }
}

/// SHA-256 of `leaf`.
pub(super) const LEAF: &str = "9f91161f43433e49a6de6db680d79f60159f2e4ac9172621a12846428158440b";
