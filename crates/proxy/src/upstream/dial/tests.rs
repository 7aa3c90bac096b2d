//! Bytes that are not HTTP over the connection that HTTP gets, as a health check or a TCPMapping will
//! speak them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use nuncio_model::{
    Identity, Reason, Resolve, Roots, TlsSettings, TlsVersion, UpstreamHost, UpstreamHttp, Verify,
    VerifyMode, VerifyName,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// An authority with a server and a client.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("an authority"))
    }

    /// Chain and key, PEM.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        let key = key();
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A server that demands a client certificate, reads `ping` and answers `pong`. Gives what it read.
fn serve(authority: &Authority) -> (SocketAddr, JoinHandle<Option<[u8; 4]>>) {
    let (chain, key) = authority.issue("a.test", ExtendedKeyUsagePurpose::ServerAuth);
    let config = nuncio_tls::server_config(
        chain.as_bytes(),
        key.as_bytes(),
        Some(authority.0.pem().as_bytes()),
        true,
        &[],
        TlsVersion::V1_3,
        TlsVersion::V1_3,
    );
    let config = config.expect("a server");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().ok()?;
        let mut tls = rustls::ServerConnection::new(config).ok()?;
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let mut read = [0; 4];
        stream.read_exact(&mut read).ok()?;
        stream.write_all(b"pong").ok()?;
        stream.conn.send_close_notify();
        stream.flush().ok()?;
        Some(read)
    });
    (address, server)
}

/// The upstream of a Mapping, a TCPMapping or a health check: its whole configuration.
fn upstream(authority: &Authority, address: SocketAddr, has_certificate: bool) -> LiveUpstream {
    let now = SystemTime::now();
    let (bundle, _) = nuncio_tls::trust_bundle(authority.0.pem().as_bytes(), now).expect("a bundle");
    let (chain, key) = authority.issue("gateway.test", ExtendedKeyUsagePurpose::ClientAuth);
    let client = nuncio_tls::client_identity(chain.as_bytes(), key.as_bytes(), now);
    let (client, _) = client.expect("an identity");
    let tls = TlsSettings {
        sni: Some("a.test".into()),
        auto_sni: nuncio_model::AutoSni::Off,
        verify: Verify {
            mode: VerifyMode::Full,
            names: [VerifyName::Dns("a.test".into())].into(),
            roots: Roots {
                bundle: Some(Arc::new(bundle)),
                system: false,
            },
            crls: None,
            pins: [].into(),
        },
        client: has_certificate.then(|| Arc::new(client)),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: [].into(),
        alpn: [].into(),
        foreign_alpn: [].into(),
    };
    LiveUpstream::new(Arc::new(Identity {
        host: UpstreamHost::Ip(address.ip()),
        port: address.port(),
        resolve: Resolve::Fixed([address].into()),
        tls: Some(Arc::new(tls)),
        http: UpstreamHttp::Http1,
    }))
}

/// Whatever reads and writes bytes will do: this function knows neither TLS nor HTTP.
async fn ping(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    stream.shutdown().await?;
    Ok(answer)
}

fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

#[test]
fn any_protocol_gets_the_tls_of_its_upstream() {
    let authority = Authority::new();
    let (address, server) = serve(&authority);
    let live = upstream(&authority, address, true);
    let endpoint = live.endpoint(address);
    on_a_worker(async {
        let deadline = Instant::now() + LIMIT;
        let dialled = live.dial(&endpoint, Wanted::Configured, deadline, LIMIT).await;
        let connected = dialled.map_err(|error| error.failure).expect("a connection");
        let report = connected.report.expect("TLS was spoken");
        assert!(report.client_certificate.sent && report.verify.mode == VerifyMode::Full);
        assert_eq!(ping(connected.io).await.expect("an answer"), "pong");
    });
    assert_eq!(server.join().expect("the server ends"), Some(*b"ping"));
}

#[test]
fn any_protocol_learns_why_its_upstream_refused_it() {
    let authority = Authority::new();
    let (address, server) = serve(&authority);
    let live = upstream(&authority, address, false);
    let endpoint = live.endpoint(address);
    on_a_worker(async {
        let deadline = Instant::now() + LIMIT;
        let dialled = live.dial(&endpoint, Wanted::Configured, deadline, LIMIT).await;
        let connected = dialled.map_err(|error| error.failure).expect("a connection");
        ping(connected.io).await.expect_err("no certificate was sent");
        let cause = connected.cause.get().expect("a cause");
        assert_eq!(cause.reason, Reason::ClientCertRequired);
        assert!(cause.remedy.contains("spec.secret"), "{cause:?}");
    });
    assert_eq!(server.join().expect("the server ends"), None);
}
