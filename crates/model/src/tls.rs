//! TLS settings of an upstream: everything about TLS that reaches the wire.
//!
//! Certificates and keys are held as checked DER and compare by the digest of their content, so
//! equal material from different Secrets is equal here, and a rotated one is not.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{ObjectRef, Origin};

/// The TLS versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl TlsVersion {
    /// As handshake reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

impl Serialize for TlsVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is done with the peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// Accept any.
    None,
    /// Accept any, verify chain and name, count what would have failed.
    Report,
    /// Refuse what does not chain to the CA, report the name.
    Chain,
    /// Refuse both.
    Full,
}

impl VerifyMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::None, Self::Report, Self::Chain, Self::Full];

    /// As fields, labels and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Report => "report",
            Self::Chain => "chain",
            Self::Full => "full",
        }
    }
}

/// A name that the peer's certificate may carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VerifyName {
    /// A DNS name as an A-label, lower case, without trailing dot.
    Dns(Arc<str>),
    /// An address.
    Ip(IpAddr),
    /// A URI, such as a SPIFFE id, compared as text.
    Uri(Arc<str>),
}

impl fmt::Display for VerifyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// An application protocol, as ALPN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// `h2`
    H2,
    /// `http/1.1`
    Http1,
}

impl Alpn {
    /// Istio's name for HTTP/2 between its sidecars.
    pub const ISTIO_H2: &str = "istio-h2";

    /// The protocol id of RFC 7301's registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}

/// A cipher suite or key-exchange group by the name its RFC gives it (`TLS_AES_128_GCM_SHA256`,
/// `X25519MLKEM768`). `nuncio-tls` knows which names exist and what users may call them.
pub type AlgorithmName = &'static str;

/// SHA-256 over the content of certificates and keys.
pub type Digest = [u8; 32];

/// A client certificate: chain in the order it is sent, leaf first, and its private key. Checked:
/// the key belongs to the leaf. Compares by content.
pub struct ClientIdentity {
    /// DER of each certificate, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// DER of the key: PKCS#8, PKCS#1 or SEC1.
    pub key: PrivateKey,
    /// Over chain and key.
    pub digest: Digest,
}

/// DER of a private key; wiped when dropped, never printed.
#[derive(Clone)]
pub enum PrivateKey {
    /// PKCS#8, RFC 5958.
    Pkcs8(Zeroizing<Vec<u8>>),
    /// PKCS#1, RFC 8017.
    Pkcs1(Zeroizing<Vec<u8>>),
    /// SEC1, RFC 5915.
    Sec1(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// The certificates of a CA bundle. Compares by content.
pub struct TrustBundle {
    /// DER of each distinct certificate in the bundle.
    pub anchors: Vec<Vec<u8>>,
    /// Over all anchors, order included.
    pub digest: Digest,
}

/// A revocation list that one of the trusted CAs signed.
pub struct Crl {
    /// DER of the list.
    pub der: Vec<u8>,
    /// Content octets of the SubjectPublicKeyInfo whose key signed it. The list speaks of certificates
    /// that this key signed under the list's issuer name, and of no others.
    pub signer: Vec<u8>,
    /// When the next is to be there, seconds since 1970; not every list says.
    pub next_update: Option<i64>,
}

/// Revocation lists that are in force: of each issuer and distribution point the newest. Checked: each is
/// signed by a trusted CA. Compares by content.
pub struct CrlSet {
    /// In the order in which they were given.
    pub lists: Vec<Crl>,
    /// Over all lists and signers, order included.
    pub digest: Digest,
}

/// A public key that a chain must hold: SHA-256 over the DER of its SubjectPublicKeyInfo (RFC 7469 section
/// 2.4). Displays as it is configured, `sha256/BASE64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub Digest);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", BASE64.encode_display(&self.0))
    }
}

macro_rules! compares_by_digest {
    ($type:ty, $name:literal) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.digest == other.digest
            }
        }
        impl Eq for $type {}
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.digest.hash(state);
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($name, "({})"), hex(&self.digest[..4]))
            }
        }
    };
}

compares_by_digest!(ClientIdentity, "ClientIdentity");
compares_by_digest!(TrustBundle, "TrustBundle");
compares_by_digest!(CrlSet, "CrlSet");

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

/// What a chain is verified against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roots {
    /// The CA that was configured.
    pub bundle: Option<Arc<TrustBundle>>,
    /// The system's roots as well (or alone, where there is no bundle).
    pub system: bool,
}

/// How the peer is verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verify {
    /// How strict.
    pub mode: VerifyMode,
    /// Any one suffices. Never empty: the SNI, else the host of `service` in its cluster forms.
    pub names: Arc<[VerifyName]>,
    /// What ends a chain.
    pub roots: Roots,
    /// Which certificates in a chain were revoked; none where no list was given.
    pub crls: Option<Arc<CrlSet>>,
    /// Any one suffices, on the leaf or on any certificate of the verified chain up to the CA that ends it;
    /// empty pins nothing.
    pub pins: Arc<[Pin]>,
}

/// What each request decides of its TLS session (`auto_sni`). One session never carries requests of two names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AutoSni {
    /// Nothing: the settings say it all.
    #[default]
    Off,
    /// The server name; the names to verify are configured.
    Sent,
    /// The server name, which is also the name to verify.
    SentAndVerified,
}

/// All that decides a TLS session with an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// Server name that is sent, A-label, lower case, no trailing dot; none for an IP literal.
    pub sni: Option<Arc<str>>,
    /// Where it is on, `sni` and the names of `verify` are those of a request whose authority gives no name.
    pub auto_sni: AutoSni,
    /// How the peer is verified.
    pub verify: Verify,
    /// What we show when asked for a certificate.
    pub client: Option<Arc<ClientIdentity>>,
    /// Lowest version offered.
    pub min_version: TlsVersion,
    /// Highest version offered; never below `min_version`.
    pub max_version: TlsVersion,
    /// TLS 1.2 suites in order of preference by RFC name; empty means the built-in list. TLS 1.3
    /// suites are always offered where 1.3 is, as in Envoy.
    pub cipher_suites: Arc<[AlgorithmName]>,
    /// Groups in order of preference; empty means X25519MLKEM768, X25519, P-256, P-384.
    pub groups: Arc<[AlgorithmName]>,
    /// Protocols offered, in order; empty sends no ALPN extension.
    pub alpn: Arc<[Alpn]>,
    /// Names that ALPN offers after these: of no HTTP version, such as Istio's, as they were written.
    pub foreign_alpn: Arc<[Box<str>]>,
}

impl TlsSettings {
    /// TLS 1.3 suites that are offered wherever TLS 1.3 is.
    pub const TLS13_SUITES: [AlgorithmName; 3] = [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ];

    /// Every name that ALPN offers, in order.
    pub fn offered_alpn(&self) -> impl Iterator<Item = &str> {
        let spoken = self.alpn.iter().map(|alpn| alpn.as_str());
        spoken.chain(self.foreign_alpn.iter().map(|name| &**name))
    }

    /// Whether ALPN offers a name whose selection means HTTP/2.
    pub fn offers_http2(&self) -> bool {
        self.alpn.contains(&Alpn::H2) || self.foreign_alpn.iter().any(|name| &**name == Alpn::ISTIO_H2)
    }

    /// The same without names whose selection means HTTP/2.
    #[must_use]
    pub fn without_http2(&self) -> Self {
        let foreign = self.foreign_alpn.iter().filter(|name| &***name != Alpn::ISTIO_H2);
        Self {
            alpn: [Alpn::Http1].into(),
            foreign_alpn: foreign.cloned().collect(),
            ..self.clone()
        }
    }

    /// TLS 1.2 suites that are offered where none are named.
    pub const TLS12_SUITES: [AlgorithmName; 6] = [
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ];

    /// Groups that are offered where none are named (decision 19).
    pub const GROUPS: [AlgorithmName; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

    /// The suites that reach the wire, in order.
    pub fn offered_cipher_suites(&self) -> impl Iterator<Item = AlgorithmName> + '_ {
        let tls12: &[AlgorithmName] = if self.cipher_suites.is_empty() {
            &Self::TLS12_SUITES
        } else {
            &self.cipher_suites
        };
        let tls13 = Self::TLS13_SUITES
            .into_iter()
            .filter(|_| self.max_version >= TlsVersion::V1_3);
        tls13.chain(
            tls12
                .iter()
                .copied()
                .filter(|_| self.min_version <= TlsVersion::V1_2),
        )
    }

    /// The groups that reach the wire, in order.
    pub fn offered_groups(&self) -> &[AlgorithmName] {
        if self.groups.is_empty() {
            &Self::GROUPS
        } else {
            &self.groups
        }
    }
}

/// Where each TLS setting came from. Not part of any identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsOrigins {
    /// Why TLS is spoken at all: the `https://` of `service`, or `tls`.
    pub enabled: Origin,
    /// The TLSContext in use.
    pub context: Option<ObjectRef>,
    /// Set while the context is broken and its last good version still serves.
    pub stale: bool,
    /// Of `sni`.
    pub sni: Origin,
    /// Of `auto_sni`; absent where no request decides anything.
    pub auto_sni: Option<Origin>,
    /// Of the verification mode.
    pub verify_mode: Origin,
    /// Of the names to verify.
    pub verify_names: Origin,
    /// Of the roots.
    pub roots: Origin,
    /// Of the revocation lists; absent where there are none.
    pub crl: Option<Origin>,
    /// Of the pins; absent where there are none.
    pub pins: Option<Origin>,
    /// Of the client certificate; absent where there is none.
    pub client_certificate: Option<Origin>,
    /// Of the lowest version.
    pub min_version: Origin,
    /// Of the highest version.
    pub max_version: Origin,
    /// Of the cipher suites.
    pub cipher_suites: Origin,
    /// Of the groups.
    pub groups: Origin,
    /// Of the ALPN protocols.
    pub alpn: Origin,
}

impl TlsOrigins {
    /// These as another Mapping would have them: where they speak of a field of `from`, they speak of that of `to`.
    pub fn told_of(&self, from: &ObjectRef, to: &ObjectRef) -> Self {
        let told = |origin: &Origin| match origin {
            Origin::Field { object, field } if object == from => Origin::Field {
                object: to.clone(),
                field: Arc::clone(field),
            },
            other => other.clone(),
        };
        Self {
            enabled: told(&self.enabled),
            context: self.context.clone(),
            stale: self.stale,
            sni: told(&self.sni),
            auto_sni: self.auto_sni.as_ref().map(told),
            verify_mode: told(&self.verify_mode),
            verify_names: told(&self.verify_names),
            roots: told(&self.roots),
            crl: self.crl.as_ref().map(told),
            pins: self.pins.as_ref().map(told),
            client_certificate: self.client_certificate.as_ref().map(told),
            min_version: told(&self.min_version),
            max_version: told(&self.max_version),
            cipher_suites: told(&self.cipher_suites),
            groups: told(&self.groups),
            alpn: told(&self.alpn),
        }
    }

    /// Whether these of `mine` and `others` of `theirs` differ in nothing but whose they are.
    pub(crate) fn say_the_same(&self, mine: &ObjectRef, others: &Self, theirs: &ObjectRef) -> bool {
        self.context == others.context && self.told_of(mine, theirs) == *others
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateRole {
    /// Shown to upstreams.
    Client,
    /// Shown to clients.
    Server,
    /// Ends chains.
    Ca,
    /// Shown to us by an upstream.
    Peer,
}

/// A certificate in words. Serialises to the `peer` entry of a handshake report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CertificateInfo {
    /// Distinguished name, RFC 4514.
    pub subject: String,
    /// Distinguished name, RFC 4514.
    pub issuer: String,
    /// `DNS:a.test`, `IP:10.0.0.5`, `URI:spiffe://...`
    pub sans: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Seconds since 1970.
    #[serde(skip)]
    pub not_before_seconds: i64,
    /// Seconds since 1970.
    #[serde(skip)]
    pub not_after_seconds: i64,
    /// Of the DER, lower-case hexadecimal.
    pub sha256: String,
    /// Of its public key, `sha256/BASE64`: what `spec.verify.pins` takes.
    pub pin: String,
}

/// A certificate that was loaded from a Secret or a file. An entry of `/api/v1/certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedCertificate {
    /// What it is for.
    pub role: CertificateRole,
    /// What it says.
    #[serde(flatten)]
    pub info: Arc<CertificateInfo>,
    /// `Secret self-signed-cert.default, tls.crt` or a file's path.
    pub from: String,
    /// Namespace of the Secret, empty for a file; a metric label.
    #[serde(skip)]
    pub namespace: Arc<str>,
    /// Name of the Secret or path of the file; a metric label.
    #[serde(skip)]
    pub secret: Arc<str>,
}
