//! TLS to upstreams.
//!
//! What is expensive is made once and shared: parsed roots and keys by all upstreams with the same,
//! verifier and resolver by all endpoints of an upstream, tickets by all workers of an endpoint.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use nuncio_model::{
    AlgorithmName, ClientIdentity, Digest, Failure, Pin, Reason, TlsSettings, TlsVersion, Verify, VerifyMode,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, ALL_CIPHER_SUITES, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, KeyLog, KeyLogFile, SupportedCipherSuite, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};

use crate::describe::seconds;
use crate::failure::unusable;
use crate::interned::Interned;
use crate::key::signing_key;
use crate::names::{TLS12_SUITES, TLS13_SUITES};
use crate::revocation::Revocation;
use crate::roots::Trust;
use crate::session::{Sessions, WithoutHint};
use crate::verifier::{Shown, Verifier};
use crate::verify::{Judge, Standards};
use crate::{Handshake, MaterialError};

/// The crypto provider that everything uses: aws-lc-rs, with the groups and the order of suites that
/// upstreams are offered where nothing is configured.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: suites(&[], TlsVersion::V1_2, TlsVersion::V1_3),
            kx_groups: DEFAULT_GROUPS
                .iter()
                .filter_map(|name| kx_group_named(name))
                .collect(),
            ..aws_lc_rs::default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// Algorithms that verify signatures.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
        LazyLock::new(|| provider().signature_verification_algorithms);
    *ALGORITHMS
}

/// Offered where `ecdh_curves` does not say otherwise (decision 19).
const DEFAULT_GROUPS: [AlgorithmName; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

/// Whether a group's share makes a hello too large for one packet.
pub(crate) fn is_post_quantum(group: &str) -> bool {
    group.contains("MLKEM")
}

fn kx_group_named(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    Some(match name {
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        "X25519" => kx_group::X25519,
        "secp256r1" => kx_group::SECP256R1,
        "secp384r1" => kx_group::SECP384R1,
        "secp256r1MLKEM768" => kx_group::SECP256R1MLKEM768,
        "MLKEM1024" => kx_group::MLKEM1024,
        _ => return None,
    })
}

/// The RFC's name of a suite; rustls has its own for those of TLS 1.3.
pub(crate) fn suite_name(suite: rustls::CipherSuite) -> String {
    let number = || format!("0x{:04x}", u16::from(suite));
    let name = suite.as_str().map_or_else(number, str::to_owned);
    name.strip_prefix("TLS13_")
        .map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

/// The RFC's name of a group; the number that IANA gave it where it has none here.
pub(crate) fn group_name(group: rustls::NamedGroup) -> String {
    let number = || format!("0x{:04x}", u16::from(group));
    group.as_str().map_or_else(number, str::to_owned)
}

/// The suites of the versions in bounds: all of TLS 1.3, and of TLS 1.2 those that are named, or all.
fn suites(tls12: &[AlgorithmName], min: TlsVersion, max: TlsVersion) -> Vec<SupportedCipherSuite> {
    let named = |wanted: &str| {
        ALL_CIPHER_SUITES
            .iter()
            .copied()
            .find(|s| suite_name(s.suite()) == wanted)
    };
    let mut chosen = Vec::new();
    if max == TlsVersion::V1_3 {
        chosen.extend_from_slice(TLS13_SUITES);
    }
    if min == TlsVersion::V1_2 && tls12.is_empty() {
        chosen.extend(TLS12_SUITES.iter().map(|(_, rfc)| *rfc));
    } else if min == TlsVersion::V1_2 {
        chosen.extend(tls12.iter().filter(|name| !TLS13_SUITES.contains(name)));
    }
    chosen.into_iter().filter_map(named).collect()
}

/// The versions between two bounds, both included.
pub(crate) fn protocol_versions(
    min: TlsVersion,
    max: TlsVersion,
) -> Result<&'static [&'static SupportedProtocolVersion], MaterialError> {
    static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];
    static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match (min, max) {
        (TlsVersion::V1_2, TlsVersion::V1_2) => Ok(&ONLY_12),
        (TlsVersion::V1_3, TlsVersion::V1_3) => Ok(&ONLY_13),
        (TlsVersion::V1_2, TlsVersion::V1_3) => Ok(&BOTH),
        (TlsVersion::V1_3, TlsVersion::V1_2) => Err(MaterialError::new(
            "bad_settings",
            "the lowest TLS version is above the highest",
        )),
    }
}

/// TLS to one upstream: all that follows from its settings. One for each distinct [`TlsSettings`].
pub struct ClientTls {
    settings: Arc<TlsSettings>,
    /// Without a session store; each endpoint has its own.
    config: ClientConfig,
    server_name: ServerName<'static>,
    pub(crate) verifier: Arc<Verifier>,
    shown: Arc<Shown>,
    clock: Arc<dyn TimeProvider>,
}

static KEYS: Interned<Digest, CertifiedKey> = Interned::new();

impl ClientTls {
    /// Prepares TLS with these settings. The first call that trusts the system's roots loads them.
    ///
    /// Fails with `bad_sni`, `no_roots`, `no_cipher_suite`, `no_group`, `bad_settings`, `bad_crl`, or for a client
    /// key that cannot be used; settings that compile made from checked material do none of this but
    /// for `bad_sni`.
    pub fn new(settings: &Arc<TlsSettings>) -> Result<Arc<Self>, MaterialError> {
        Self::with_clock(settings, Arc::new(DefaultTimeProvider))
    }

    pub(crate) fn with_clock(
        settings: &Arc<TlsSettings>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<Self>, MaterialError> {
        let verifier = Arc::new(verifier(settings)?);
        let key = settings
            .client
            .as_ref()
            .map(|identity| certified_key(identity))
            .transpose()?;
        let shown = Arc::new(Shown { key });
        Ok(Arc::new(Self {
            settings: Arc::clone(settings),
            config: config(settings, Groups::All, &verifier, &shown, &clock)?,
            server_name: server_name(settings)?,
            verifier,
            shown,
            clock,
        }))
    }

    /// The time by which certificates are judged.
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.current_time().unwrap_or_else(UnixTime::now)
    }

    /// TLS to one of the upstream's endpoints.
    pub fn endpoint(self: &Arc<Self>) -> EndpointTls {
        let sessions = Arc::new(Sessions::default());
        let mut config = self.config.clone();
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        EndpointTls {
            tls: Arc::clone(self),
            config: Arc::new(config),
            small: OnceLock::new(),
            sessions,
        }
    }

    /// The same without post-quantum groups. rustls resumes only with the same verifier and resolver, so
    /// tickets of either serve both.
    fn small(&self, sessions: &Arc<Sessions>) -> Result<Arc<ClientConfig>, Failure> {
        let config = config(
            &self.settings,
            Groups::Classical,
            &self.verifier,
            &self.shown,
            &self.clock,
        );
        let mut config = config.map_err(|error| Failure {
            reason: Reason::TlsConfigUnresolved,
            message: error.message,
            remedy: String::new(),
        })?;
        config.resumption = Resumption::store(Arc::new(WithoutHint(Arc::clone(sessions))));
        Ok(Arc::new(config))
    }

    /// What it was made from.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Which of the groups are offered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Groups {
    All,
    /// Those whose share fits into a small hello.
    Classical,
}

fn config(
    settings: &TlsSettings,
    groups: Groups,
    verifier: &Arc<Verifier>,
    shown: &Arc<Shown>,
    clock: &Arc<dyn TimeProvider>,
) -> Result<ClientConfig, MaterialError> {
    let versions = protocol_versions(settings.min_version, settings.max_version)?;
    let provider = provider_for(settings, groups)?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::clone(clock))
        .with_protocol_versions(versions)
        .map_err(|_| MaterialError {
            reason: "bad_settings",
            message: "TLS cannot be set up, because no cipher suite fits the versions".to_owned(),
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as _)
        .with_client_cert_resolver(Arc::clone(shown) as _);
    config.alpn_protocols = settings.offered_alpn().map(Into::into).collect();
    config.enable_sni = settings.sni.is_some();
    config.resumption = Resumption::disabled();
    if let Some(log) = key_log() {
        config.key_log = log;
    }
    Ok(config)
}

/// Suites and groups as configured; the shared provider where nothing is.
fn provider_for(settings: &TlsSettings, wanted: Groups) -> Result<Arc<CryptoProvider>, MaterialError> {
    let (min, max) = (settings.min_version, settings.max_version);
    let both = min == TlsVersion::V1_2 && max == TlsVersion::V1_3;
    let all = settings.groups.is_empty() && wanted == Groups::All;
    if settings.cipher_suites.is_empty() && all && both {
        return Ok(provider());
    }
    let cipher_suites = suites(&settings.cipher_suites, min, max);
    if cipher_suites.is_empty() {
        return Err(MaterialError::new(
            "no_cipher_suite",
            "no cipher suite is left to offer",
        ));
    }
    let groups: &[AlgorithmName] = if settings.groups.is_empty() {
        &DEFAULT_GROUPS
    } else {
        &settings.groups
    };
    let kx_groups: Vec<_> = groups
        .iter()
        .filter(|name| wanted == Groups::All || !is_post_quantum(name))
        .filter_map(|name| kx_group_named(name))
        .collect();
    if kx_groups.is_empty() {
        return Err(MaterialError::new(
            "no_group",
            "no key-exchange group is left to offer",
        ));
    }
    Ok(Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups,
        ..(*provider()).clone()
    }))
}

pub(crate) fn verifier(settings: &TlsSettings) -> Result<Verifier, MaterialError> {
    let verify = &settings.verify;
    let mut roots = verify.roots.clone();
    if roots.bundle.is_none() && !roots.system {
        // A mode that refuses needs something to refuse by; one that only reports uses what is there.
        if matches!(verify.mode, VerifyMode::Chain | VerifyMode::Full) {
            return Err(MaterialError {
                reason: "no_roots",
                message: format!(
                    "verification mode `{}` needs a CA: set spec.ca_secret, or spec.verify.roots to `system`",
                    verify.mode.as_str()
                ),
            });
        }
        roots.system = true;
    }
    Ok(Verifier {
        mode: verify.mode,
        judge: Judge::new(Standards {
            trust: Trust::of(&roots),
            names: Arc::clone(&verify.names),
            revocation: revocation(verify)?,
            pins: pins(verify),
        }),
    })
}

/// The revocation lists; mode `none` asks no questions.
fn revocation(verify: &Verify) -> Result<Option<Arc<Revocation>>, MaterialError> {
    let crls = verify.crls.as_ref().filter(|_| verify.mode != VerifyMode::None);
    let parsed = crls.map(|crls| Revocation::of(crls)).transpose();
    parsed.map_err(|why| MaterialError {
        reason: "bad_crl",
        message: format!("a revocation list {why}"),
    })
}

fn pins(verify: &Verify) -> Arc<[Pin]> {
    match verify.mode {
        VerifyMode::None => Arc::from([]),
        VerifyMode::Report | VerifyMode::Chain | VerifyMode::Full => Arc::clone(&verify.pins),
    }
}

fn certified_key(identity: &ClientIdentity) -> Result<Arc<CertifiedKey>, MaterialError> {
    KEYS.get(identity.digest, || {
        let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
        Ok(CertifiedKey::new(chain, signing_key(&identity.key)?))
    })
}

/// What rustls is told. Without SNI it still wants some name; an address is one that it never sends.
fn server_name(settings: &TlsSettings) -> Result<ServerName<'static>, MaterialError> {
    let Some(sni) = &settings.sni else {
        return Ok(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    };
    match DnsName::try_from(sni.as_ref()) {
        Ok(name) => Ok(ServerName::DnsName(name.to_owned())),
        Err(_) => Err(MaterialError {
            reason: "bad_sni",
            message: format!(
                "`{sni}` cannot be sent as server name: give a DNS name, not an address or port"
            ),
        }),
    }
}

/// Where `SSLKEYLOGFILE` asks for session secrets; the program warns of it at its start.
fn key_log() -> Option<Arc<dyn KeyLog>> {
    static LOG: LazyLock<Option<Arc<KeyLogFile>>> =
        LazyLock::new(|| std::env::var_os("SSLKEYLOGFILE").map(|_| Arc::new(KeyLogFile::new())));
    LOG.clone().map(|log| log as _)
}

/// TLS to one endpoint of an upstream; its session tickets live here. Shared by all workers.
#[derive(Clone, Debug)]
pub struct EndpointTls {
    tls: Arc<ClientTls>,
    config: Arc<ClientConfig>,
    /// Made for the first peer that needs it.
    small: OnceLock<Arc<ClientConfig>>,
    sessions: Arc<Sessions>,
}

impl EndpointTls {
    /// Starts a handshake: its first message waits to be written.
    pub fn start(&self) -> Result<Handshake, Failure> {
        self.start_with(&self.config)
    }

    /// Starts a handshake whose hello offers no post-quantum group, for a peer that does not answer one that
    /// does (decision 19).
    pub fn start_small(&self) -> Result<Handshake, Failure> {
        if self.small.get().is_none() {
            // Another thread may be first, with the same.
            let _ = self.small.set(self.tls.small(&self.sessions)?);
        }
        self.start_with(self.small.get().unwrap_or(&self.config))
    }

    /// Whether the next hello is larger than one packet although nobody asked for it: `ecdh_curves` is not
    /// set, and the peer has not chosen a small group before.
    pub fn hello_is_large(&self) -> bool {
        let settings = self.tls.settings();
        let unasked = settings.groups.is_empty() && settings.max_version == TlsVersion::V1_3;
        unasked
            && self
                .sessions
                .group()
                .is_none_or(|group| is_post_quantum(&group_name(group)))
    }

    fn start_with(&self, config: &Arc<ClientConfig>) -> Result<Handshake, Failure> {
        if self.tls.verifier.refuses() {
            self.sessions.expire(seconds(self.tls.now()));
        }
        let resumes = self.sessions.has_ticket();
        match ClientConnection::new(Arc::clone(config), self.tls.server_name.clone()) {
            Ok(connection) => Ok(Handshake::new(connection, &self.tls, &self.sessions, resumes)),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Whether the next handshake resumes a session.
    pub fn has_ticket(&self) -> bool {
        self.sessions.has_ticket()
    }

    /// Forgets session tickets, so that the next handshake is a full one.
    pub fn forget_sessions(&self) {
        self.sessions.forget();
    }
}

#[cfg(test)]
#[path = "client/tests.rs"]
mod tests;
