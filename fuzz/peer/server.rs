//! A real server whose flights can be spoilt.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use nuncio_model::TrustBundle;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[path = "../../tests/support/sealed.rs"]
mod sealed;

pub use sealed::Sealer;
use sealed::{ALERT, DATA, HANDSHAKE, SUITES, ticket};

/// What is done is read from the input, byte by byte; at its end nothing more is done.
pub struct Play<'a> {
    rest: &'a [u8],
}

/// What became of a flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It ends early, and so does the connection.
    Cut,
    /// The same, and it was spoilt before.
    CutAndMore,
    /// It begins with what cannot begin TLS.
    Noise,
    /// Anything else.
    Other,
}

impl<'a> Play<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> usize {
        let (high, low) = (self.byte().unwrap_or(0), self.byte().unwrap_or(0));
        u16::from_be_bytes([high, low]).into()
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// One of so many.
    pub fn choose(&mut self, count: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % count
    }

    /// So many bytes reach the gateway at once: all at the input's end, one by one where it says so.
    pub fn step(&mut self) -> usize {
        match self.byte().unwrap_or(0) {
            0 => usize::MAX,
            step => usize::from(step),
        }
    }

    pub fn server(&mut self) -> ServerConnection {
        let config = &SERVERS[self.choose(SERVERS.len())];
        ServerConnection::new(Arc::clone(config)).expect("a server")
    }

    /// Does something to a flight, or nothing.
    pub fn harm(&mut self, flight: &mut Vec<u8>) -> Option<Harm> {
        let mut harm = None;
        for _ in 0..4 {
            // What is known of one harm is not known of several.
            harm = match (harm, self.harm_once(flight)) {
                (harm, None) => return harm,
                (None, Some(Harm::Cut)) => return Some(Harm::Cut),
                (Some(_), Some(Harm::Cut)) => return Some(Harm::CutAndMore),
                (None, only) => only,
                (Some(_), Some(_)) => Some(Harm::Other),
            };
        }
        harm
    }

    fn harm_once(&mut self, flight: &mut Vec<u8>) -> Option<Harm> {
        let mut records = records(flight);
        let count = records.len().max(1);
        match self.byte()? % 10 {
            1 => {
                let whole = flight.len();
                flight.truncate(self.number() % whole.max(1));
                return Some(Harm::Cut);
            }
            2 => {
                let noise = self.bytes(64);
                flight.splice(..0, noise.iter().copied());
                // Zero bytes and those of content types may begin a record.
                let is_noise = noise.first().is_some_and(|first| !(20..=24).contains(first));
                return Some(if is_noise { Harm::Noise } else { Harm::Other });
            }
            3 => {
                let at = self.number() % flight.len().max(1);
                let with = self.byte()?;
                *flight.get_mut(at)? ^= with;
                return Some(Harm::Other);
            }
            4 => {
                let (a, b) = (self.choose(count), self.choose(count));
                if a.max(b) < records.len() {
                    records.swap(a, b);
                }
            }
            5 => {
                let at = self.choose(count);
                if at < records.len() {
                    records.remove(at);
                }
            }
            6 => {
                let (at, times) = (self.choose(count), self.choose(64));
                let again = records.get(at)?.clone();
                records.splice(at..at, std::iter::repeat_n(again, times));
            }
            7 => {
                let (at, kind, content) = (self.choose(count), self.byte()?, self.number() % 512);
                records.insert(at.min(records.len()), clear_record(kind, self.bytes(content)));
            }
            8 => {
                // A message that never ends, of any kind: its length is a lie.
                let (kind, claimed, times) = (self.byte()?, self.number(), self.choose(64));
                let mut message = vec![kind, self.byte()?];
                message.extend(u16::try_from(claimed).unwrap_or(u16::MAX).to_be_bytes());
                records.push(clear_record(HANDSHAKE, &message));
                records.extend(std::iter::repeat_n(clear_record(HANDSHAKE, &[0; 1 << 14]), times));
            }
            9 => {
                let (at, alert) = (self.choose(count), [1 + self.byte()? % 2, self.byte()?]);
                records.insert(at.min(records.len()), clear_record(ALERT, &alert));
            }
            _ => return None,
        }
        *flight = records.concat();
        Some(Harm::Other)
    }

    /// Records behind the encryption; none at the end of the input.
    pub fn records(&mut self, sealer: &mut Sealer) -> Option<Vec<u8>> {
        let what = self.byte()? % 6;
        let times = self.choose(64);
        let mut next = |content_type, content: &[u8]| sealer.record(content_type, content);
        Some(match what {
            0 => {
                let length = u16::try_from(self.number()).unwrap_or(0) % 0x3f00;
                let all =
                    (0..u32::try_from(times).unwrap_or(0)).flat_map(|n| next(HANDSHAKE, &ticket(n, length)));
                all.collect()
            }
            1 => (0..times).flat_map(|_| next(DATA, b"")).collect(),
            2 => {
                let alert = [1 + self.byte()? % 2, self.byte()?];
                (0..times).flat_map(|_| next(ALERT, &alert)).collect()
            }
            // A request for new keys: of TLS 1.3, and of TLS 1.2.
            3 => next(HANDSHAKE, &[24, 0, 0, 1, self.byte()? % 3]),
            4 => (0..times).flat_map(|_| next(HANDSHAKE, &[0; 4])).collect(),
            _ => {
                let (kind, length) = (self.byte()?, self.number() % 512);
                next(kind, self.bytes(length))
            }
        })
    }
}

/// What the server answers to these bytes. An error of its own is an alert in the answer.
pub fn answer(server: &mut ServerConnection, mut bytes: &[u8]) -> Vec<u8> {
    while !bytes.is_empty() && server.read_tls(&mut bytes).is_ok() {
        let _ = server.process_new_packets();
    }
    let mut flight = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut flight).expect("memory");
    }
    flight
}

/// Goes on by hand, where the server thinks that its handshake is over.
pub fn sealer(mut server: ServerConnection) -> Option<Sealer> {
    let pending = answer(&mut server, &[]);
    (!server.is_handshaking() && pending.is_empty()).then(|| Sealer::of(server))
}

/// A flight as records; what is none at its end is the last.
fn records(flight: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut rest) = (Vec::new(), flight);
    while let [_, _, _, high, low, ..] = rest {
        let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        let (record, after) = rest.split_at(length.min(rest.len()));
        records.push(record.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        records.push(rest.to_vec());
    }
    records
}

fn clear_record(content_type: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 3, 3];
    record.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
    record.extend(content);
    record
}

static CA: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| authority("ca", None));

fn authority(
    name: &str,
    by: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    match by {
        None => CertifiedIssuer::self_signed(params, key),
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer),
    }
    .expect("a CA")
}

/// What a gateway that verifies trusts.
pub fn trusted() -> TrustBundle {
    let bundle = nuncio_tls::trust_bundle(CA.pem().as_bytes(), SystemTime::now());
    bundle.expect("a CA can be trusted").0
}

/// Each with either version: a good chain, a hundred intermediates, one chain just below and one above 64 KiB, and
/// a server that asks for a client certificate.
static SERVERS: LazyLock<Vec<Arc<ServerConfig>>> = LazyLock::new(|| {
    let strangers: Vec<_> = (0..100).map(|_| authority("ca", None).der().clone()).collect();
    let heavy = heavy();
    let chains = [vec![], strangers, vec![heavy.clone()], vec![heavy.clone(), heavy]];
    let versions: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    let mut servers = Vec::new();
    for version in versions {
        servers.extend(chains.iter().map(|others| config(version, others, false)));
        servers.push(config(version, &[], true));
    }
    servers
});

/// A certificate of more than 32 KiB.
fn heavy() -> CertificateDer<'static> {
    let names: Vec<String> = (0..1000).map(|n| format!("{n:0>30}.a.test")).collect();
    let params = CertificateParams::new(names).expect("names");
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").der().clone()
}

fn config(
    version: &'static SupportedProtocolVersion,
    others: &[CertificateDer<'static>],
    asks: bool,
) -> Arc<ServerConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .retain(|suite| SUITES.contains(&suite.suite()));
    let provider = Arc::new(provider);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, &CA).expect("a certificate").der().clone();
    let chain = std::iter::once(leaf).chain(others.iter().cloned()).collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("a version");
    let builder = if asks {
        let mut roots = RootCertStore::empty();
        roots.add(CA.der().clone()).expect("a root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider).allow_unauthenticated();
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a server");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    Arc::new(config)
}
