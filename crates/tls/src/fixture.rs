//! Certificates, peers and settings for tests: every certificate is real, every handshake is one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nuncio_model::{Alpn, Failure, Reason, Roots, TlsSettings, TlsVersion, Verify, VerifyMode, VerifyName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::server::ServerConnection;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::{ClientTls, EndpointTls, Handshake, client_identity, crl_set, provider, trust_bundle};

/// About a year.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A CA.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::from_params(ca_params(name))
    }

    pub(crate) fn from_params(params: CertificateParams) -> Self {
        Self::from_params_and_key(params, new_key())
    }

    pub(crate) fn from_params_and_key(params: CertificateParams, key: KeyPair) -> Self {
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a CA"),
        }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        Self {
            issuer: CertifiedIssuer::signed_by(ca_params(name), new_key(), &self.issuer).expect("a CA"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// A certificate for a server.
    pub(crate) fn leaf(&self, names: &[&str]) -> Leaf {
        self.issue(&leaf_params(names))
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Leaf {
        self.issue_for(params, new_key())
    }

    pub(crate) fn issue_for(&self, params: &CertificateParams, key: KeyPair) -> Leaf {
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            chain: vec![certificate.der().to_vec()],
            key,
        }
    }
}

/// About a day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A revocation list with these serial numbers, of yesterday, for a month.
pub(crate) fn crl_params(serials: &[u64]) -> CertificateRevocationListParams {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (SystemTime::now() - 2 * DAY).into(),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: (SystemTime::now() - DAY).into(),
        next_update: (SystemTime::now() + 30 * DAY).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// What a list for one distribution point says of itself.
pub(crate) fn for_point(point: &str, scope: Option<CrlScope>) -> Option<CrlIssuingDistributionPoint> {
    Some(CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint {
            uris: vec![point.to_owned()],
        },
        scope,
    })
}

/// A server's certificate for `a.test` with this serial number.
pub(crate) fn numbered(serial: u64) -> CertificateParams {
    let mut params = leaf_params(&["a.test"]);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

impl Authority {
    /// A revocation list of this CA, PEM.
    pub(crate) fn crl(&self, params: &CertificateRevocationListParams) -> String {
        let list = params.signed_by(&self.issuer).expect("a list");
        to_pem("X509 CRL", list.der())
    }

    /// A list of this CA with these serial numbers.
    pub(crate) fn revoking(&self, serials: &[u64]) -> String {
        self.crl(&crl_params(serials))
    }
}

/// `settings` with these lists, which its own roots must have signed.
pub(crate) fn with_crls(mut settings: TlsSettings, pem: &str) -> TlsSettings {
    let read = crl_set(pem.as_bytes(), &settings.verify.roots, SystemTime::now());
    settings.verify.crls = Some(Arc::new(read.expect("lists").0));
    settings
}

/// A certificate with its key, and what is sent with it.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: KeyPair,
}

impl Leaf {
    /// Signed by its own key.
    pub(crate) fn self_signed(params: &CertificateParams) -> Self {
        let key = new_key();
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            chain: vec![certificate.der().to_vec()],
            key,
        }
    }

    pub(crate) fn with(mut self, intermediate: &Authority) -> Self {
        self.chain.push(intermediate.der());
        self
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.chain[0]
    }

    pub(crate) fn pem(&self) -> String {
        self.chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server that shows it, with everything else as it comes.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server_with(&provider(), rustls::ALL_VERSIONS)
    }

    pub(crate) fn server_with(
        &self,
        provider: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(self.resolver())
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = crate::key::private_keys(self.key_pem().as_bytes())
            .expect("a key")
            .remove(0)
            .signing;
        Arc::new(CertifiedKey::new(chain, key).into())
    }

    /// A server that demands a client certificate by `ca`.
    pub(crate) fn server_demanding(
        &self,
        ca: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        required: bool,
    ) -> ServerConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.issuer.der().clone()).expect("a CA");
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = if required {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_cert_resolver(self.resolver())
    }
}

pub(crate) fn to_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits =
                group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for index in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
                text.push(if index <= group.len() {
                    char::from(digit)
                } else {
                    '='
                });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = named_params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn leaf_params(names: &[&str]) -> CertificateParams {
    let mut params = named_params(names.first().unwrap_or(&"leaf"), names);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

/// A certificate named `name` for `names`, of which those with a scheme are URIs.
fn named_params(name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().expect("a URI")),
            Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
        })
        .collect();
    params
}

/// Settings that trust nothing in particular and refuse nothing.
pub(crate) fn settings() -> TlsSettings {
    TlsSettings {
        sni: Some("a.test".into()),
        auto_sni: nuncio_model::AutoSni::Off,
        verify: Verify {
            mode: VerifyMode::None,
            names: [dns("a.test")].into(),
            roots: Roots {
                bundle: None,
                system: true,
            },
            crls: None,
            pins: [].into(),
        },
        client: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: [].into(),
        alpn: [Alpn::Http1].into(),
        foreign_alpn: [].into(),
    }
}

/// Settings that verify by `mode` against a bundle.
pub(crate) fn trusting(bundle: &str, mode: VerifyMode) -> TlsSettings {
    let (bundle, _) = trust_bundle(bundle.as_bytes(), SystemTime::now()).expect("a bundle");
    let mut settings = settings();
    settings.verify.mode = mode;
    settings.verify.roots = Roots {
        bundle: Some(Arc::new(bundle)),
        system: false,
    };
    settings
}

pub(crate) fn with_client(mut settings: TlsSettings, leaf: &Leaf) -> TlsSettings {
    let (chain, key) = (leaf.pem(), leaf.key_pem());
    let (identity, _) =
        client_identity(chain.as_bytes(), key.as_bytes(), SystemTime::now()).expect("an identity");
    settings.client = Some(Arc::new(identity));
    settings
}

pub(crate) fn dns(name: &str) -> VerifyName {
    VerifyName::Dns(name.into())
}

pub(crate) fn ip(last: u8) -> VerifyName {
    VerifyName::Ip(Ipv4Addr::new(10, 0, 0, last).into())
}

pub(crate) fn uri(text: &str) -> VerifyName {
    VerifyName::Uri(text.into())
}

pub(crate) fn endpoint(settings: TlsSettings) -> EndpointTls {
    ClientTls::new(&Arc::new(settings)).expect("settings").endpoint()
}

/// A handshake and its peer, and how far they came.
pub(crate) struct Meeting {
    pub(crate) client: Handshake,
    pub(crate) server: ServerConnection,
    pub(crate) outcome: Result<(), Failure>,
}

/// Lets an endpoint meet a server, until neither has anything to say.
pub(crate) fn meet(endpoint: &EndpointTls, server: ServerConfig) -> Meeting {
    meet_shared(endpoint, &Arc::new(server))
}

/// As [`meet`], with a server that keeps its sessions.
pub(crate) fn meet_shared(endpoint: &EndpointTls, server: &Arc<ServerConfig>) -> Meeting {
    meet_with(endpoint.start().expect("a hello"), server)
}

/// As [`meet_shared`], for a handshake that was started already.
pub(crate) fn meet_with(client: Handshake, server: &Arc<ServerConfig>) -> Meeting {
    let server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut meeting = Meeting {
        client,
        server,
        outcome: Ok(()),
    };
    meeting.run();
    meeting
}

impl Meeting {
    /// Moves bytes both ways until nothing moves or the client has failed.
    pub(crate) fn run(&mut self) {
        while self.outcome.is_ok() && (self.client_speaks() | self.server_speaks()) {}
        // What the client has to say about a failure reaches the server.
        self.client_speaks();
    }

    pub(crate) fn client_speaks(&mut self) -> bool {
        let mut bytes = Vec::new();
        while self.client.connection().wants_write() {
            self.client.connection().write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.server.read_tls(&mut rest).expect("memory");
            // An error of the server's is an alert to the client, which is what is looked at.
            let _ = self.server.process_new_packets();
        }
        !bytes.is_empty()
    }

    pub(crate) fn server_speaks(&mut self) -> bool {
        let mut bytes = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut bytes).expect("memory");
        }
        self.feed(&bytes);
        !bytes.is_empty()
    }

    /// Gives the client bytes as if from its peer.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.outcome.is_ok() {
            self.client.read_tls(&mut bytes).expect("memory");
            self.outcome = self.client.process().map(|_| ());
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.outcome.as_ref().expect_err("a failure")
    }

    pub(crate) fn report(&self) -> nuncio_model::HandshakeReport {
        let (duration, now) = (Duration::from_micros(3100), SystemTime::now());
        match &self.outcome {
            Ok(()) => self.client.report_ok(duration, now),
            Err(failure) => self.client.report_failed(failure, duration, now),
        }
    }
}

/// Lets a hello be answered with `bytes`.
pub(crate) fn answered(endpoint: &EndpointTls, bytes: &[u8]) -> (Handshake, Result<(), Failure>) {
    let mut client = endpoint.start().expect("a hello");
    let mut rest = bytes;
    let mut outcome = Ok(());
    while !rest.is_empty() && outcome.is_ok() {
        client.read_tls(&mut rest).expect("memory");
        outcome = client.process().map(|_| ());
    }
    (client, outcome)
}

/// A fatal alert as a peer sends it before encryption begins.
pub(crate) fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

/// The failure has this reason, and these words in its message and its remedy.
#[track_caller]
pub(crate) fn assert_says(failure: &Failure, reason: Reason, message: &str, remedy: &str) {
    assert_eq!(failure.reason, reason, "{failure:?}");
    assert!(failure.message.contains(message), "{failure:?}");
    assert!(failure.remedy.contains(remedy), "{failure:?}");
}
