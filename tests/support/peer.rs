//! Upstreams that record what the gateway does to them, and misbehave where a test wants it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use super::certificates::Identity;
use super::waiting::eventually;

/// So many first bytes of a connection are kept.
const KEPT: usize = 64 * 1024;

/// What happened on one TCP connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Who connected.
    pub from: Option<SocketAddr>,
    /// The first bytes that arrived, before any decryption.
    pub bytes: Vec<u8>,
    /// What the ClientHello said, where there was one.
    pub hello: Option<Hello>,
    /// What was agreed, where the handshake came to its end.
    pub session: Option<Session>,
    /// Why the handshake failed, where it did.
    pub handshake_error: Option<String>,
    /// Requests on it, in order.
    pub requests: Vec<Recorded>,
    /// It is over.
    pub closed: bool,
}

/// A ClientHello.
#[derive(Clone, Debug)]
pub struct Hello {
    pub sni: Option<String>,
    pub alpn: Vec<String>,
    /// Names as rustls writes them.
    pub cipher_suites: Vec<String>,
    /// Names as rustls writes them.
    pub groups: Vec<String>,
}

/// A session that stands.
#[derive(Clone, Debug)]
pub struct Session {
    /// `TLSv1_3` or `TLSv1_2`.
    pub version: String,
    pub alpn: Option<String>,
    pub resumed: bool,
    /// The client's certificate, DER.
    pub client: Option<Vec<u8>>,
    /// All that the client showed, in its order, DER.
    pub client_chain: Vec<Vec<u8>>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    /// `host`, or `:authority` in HTTP/2.
    pub fn authority(&self) -> String {
        let host = self
            .headers
            .get("host")
            .map(|host| host.to_str().unwrap().to_owned());
        host.or_else(|| self.uri.authority().map(ToString::to_string))
            .unwrap_or_default()
    }
}

type Records = Arc<Mutex<Vec<Connection>>>;
type Answered = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;
type Answer = Arc<dyn Fn(&Recorded) -> Answered + Send + Sync>;

/// An upstream that runs; it ends when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    records: Records,
    _tasks: JoinSet<()>,
}

/// Where upstreams are reached: on loopback, unless they stand for pods of a real cluster, whose API server lets no pod
/// be there.
fn pod_address() -> Ipv4Addr {
    if std::env::var_os("NUNCIO_TEST_KUBECONFIG").is_none() {
        return Ipv4Addr::LOCALHOST;
    }
    if let Ok(given) = std::env::var("NUNCIO_TEST_POD_ADDRESS") {
        return given.parse().expect("NUNCIO_TEST_POD_ADDRESS is an IPv4 address");
    }
    // No packet is sent for this; the kernel says which address it would come from.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .and_then(|()| socket.local_addr());
    match own.map(|own| own.ip()) {
        Ok(std::net::IpAddr::V4(own)) if !own.is_loopback() => own,
        other => panic!("no address of this machine for pods ({other:?}); set NUNCIO_TEST_POD_ADDRESS"),
    }
}

/// Names of loopback lead to upstreams as well.
fn bind_address() -> Ipv4Addr {
    match pod_address() {
        Ipv4Addr::LOCALHOST => Ipv4Addr::LOCALHOST,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

impl Upstream {
    /// Where it is reached by a name of this machine.
    pub fn on_loopback(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.address.port()).into()
    }

    /// HTTP over TLS with this certificate: TLS 1.2 and 1.3, `h2` and `http/1.1`, every answer 200 `ok`.
    pub async fn tls(identity: &Identity) -> Self {
        Tls::with(identity).start().await
    }

    /// HTTP in the clear, every answer 200 `ok`.
    pub async fn cleartext() -> Self {
        Self::listen(async |stream, record: Record| {
            serve_http(stream, record, answer_ok()).await;
        })
        .await
    }

    /// TCP that does whatever `handle` does with each connection.
    pub async fn raw<F>(handle: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        Self::accepting(move |stream, _| {
            let handle = handle.clone();
            async move { handle(stream).await }
        })
        .await
    }

    /// Records first bytes and hands the rest to `serve`.
    async fn listen<F>(serve: impl Fn(Tapped, Record) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        Self::accepting(move |stream, record| {
            let serve = serve.clone();
            let tapped = Tapped {
                stream,
                record: record.clone(),
            };
            async move { serve(tapped, record).await }
        })
        .await
    }

    async fn accepting<F>(handle: impl Fn(TcpStream, Record) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((bind_address(), 0)).await.unwrap();
        let address = SocketAddr::new(pod_address().into(), listener.local_addr().unwrap().port());
        let records = Records::default();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&records);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, from)) = listener.accept().await {
                // As servers do. Otherwise an alert may still wait for an acknowledgement when the socket is
                // closed with something unread in it, and be thrown away for a reset.
                stream.set_nodelay(true).unwrap();
                let record = Record::new(&shared, from);
                let served = handle(stream, record.clone());
                connections.spawn(async move {
                    served.await;
                    record.change(|connection| connection.closed = true);
                });
            }
        });
        Self {
            address,
            records,
            _tasks: tasks,
        }
    }

    /// Every connection so far, in the order of arrival.
    pub fn connections(&self) -> Vec<Connection> {
        self.records.lock().unwrap().clone()
    }

    /// Looks at every connection so far, without the copies that [`Upstream::connections`] makes.
    pub fn look<T>(&self, at: impl FnOnce(&[Connection]) -> T) -> T {
        at(&self.records.lock().unwrap())
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.connections()
            .into_iter()
            .flat_map(|connection| connection.requests)
            .collect()
    }

    /// The latest connection.
    #[track_caller]
    pub fn last(&self) -> Connection {
        self.connections().pop().expect("nobody connected")
    }

    /// The ClientHello of the latest connection.
    #[track_caller]
    pub fn hello(&self) -> Hello {
        self.last().hello.expect("there was no ClientHello")
    }

    /// The latest request.
    #[track_caller]
    pub fn request(&self) -> Recorded {
        self.requests().pop().expect("nobody asked for anything")
    }

    /// Fails if anybody connected so far.
    pub async fn assert_untouched(&self) {
        let before = self.connected_so_far().await;
        assert!(before.is_empty(), "somebody connected: {before:?}");
    }

    /// Whoever connected until now. Connections arrive in order, so when one of its own has arrived there is
    /// none before it that is still to come.
    pub async fn connected_so_far(&self) -> Vec<Connection> {
        let probe = TcpStream::connect(self.address).await.unwrap();
        let own = probe.local_addr().ok();
        let before = eventually("a connection of our own", async || {
            let mut all = self.connections();
            let own = all.iter().position(|connection| connection.from == own)?;
            all.truncate(own);
            Some(all)
        });
        before.await
    }

    /// Waits for a connection of which this is true.
    pub async fn saw(&self, what: &str, right: impl Fn(&Connection) -> bool) -> Connection {
        eventually(what, async || self.connections().into_iter().find(&right)).await
    }
}

/// A TLS upstream to be started.
pub struct Tls {
    identity: Identity,
    client_ca: Option<(String, bool)>,
    alpn: Vec<&'static str>,
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Option<Vec<rustls::CipherSuite>>,
    groups: Option<Vec<rustls::NamedGroup>>,
    tickets: bool,
    answer: Answer,
}

impl Tls {
    pub fn with(identity: &Identity) -> Self {
        Self {
            identity: identity.clone(),
            client_ca: None,
            alpn: vec!["h2", "http/1.1"],
            versions: rustls::ALL_VERSIONS.to_vec(),
            suites: None,
            groups: None,
            tickets: true,
            answer: answer_ok(),
        }
    }

    /// Asks for client certificates of this authority (PEM), and insists on one where `required`.
    pub fn client_ca(mut self, pem: &str, required: bool) -> Self {
        self.client_ca = Some((pem.to_owned(), required));
        self
    }

    /// Protocols that ALPN may choose; none at all leaves ALPN out.
    pub fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = protocols.to_vec();
        self
    }

    /// TLS versions that are spoken, such as `&[&rustls::version::TLS13]`.
    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Suites that are accepted.
    pub fn cipher_suites(mut self, suites: &[rustls::CipherSuite]) -> Self {
        self.suites = Some(suites.to_vec());
        self
    }

    /// Key-exchange groups that are accepted.
    pub fn groups(mut self, groups: &[rustls::NamedGroup]) -> Self {
        self.groups = Some(groups.to_vec());
        self
    }

    /// Issues no session tickets under TLS 1.3.
    pub fn without_tickets(mut self) -> Self {
        self.tickets = false;
        self
    }

    /// What is answered.
    pub fn answer(
        mut self,
        answer: impl Fn(&Recorded) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.answer = Arc::new(move |request| Box::pin(std::future::ready(answer(request))));
        self
    }

    /// What is answered, when the future is ready.
    pub fn answer_later<F>(mut self, answer: impl Fn(&Recorded) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        self.answer = Arc::new(move |request| Box::pin(answer(request)));
        self
    }

    /// Starts it; requests are answered.
    pub async fn start(self) -> Upstream {
        self.changing().await.0
    }

    /// Starts it, with settings that can be changed while it runs; the answers stay what they are.
    pub async fn changing(self) -> (Upstream, Changing) {
        let answer = Arc::clone(&self.answer);
        self.start_changing(move |stream, record| {
            let answer = Arc::clone(&answer);
            async move { serve_http(stream, record, answer).await }
        })
        .await
    }

    /// Starts it; after each handshake `handle` does what it likes.
    pub async fn start_with<F>(
        self,
        handle: impl Fn(TlsStream<Tapped>, Record) -> F + Clone + Send + Sync + 'static,
    ) -> Upstream
    where
        F: Future<Output = ()> + Send,
    {
        self.start_changing(handle).await.0
    }

    /// The same, with settings that can be changed while it runs.
    pub async fn start_changing<F>(
        self,
        handle: impl Fn(TlsStream<Tapped>, Record) -> F + Clone + Send + Sync + 'static,
    ) -> (Upstream, Changing)
    where
        F: Future<Output = ()> + Send,
    {
        let changing = Changing(Arc::new(Mutex::new(self.config())));
        let current = changing.0.clone();
        let upstream = Upstream::listen(move |stream, record| {
            let (config, handle) = (Arc::clone(&current.lock().unwrap()), handle.clone());
            async move {
                if let Some(stream) = handshake(stream, config, &record).await {
                    handle(stream.into(), record).await;
                }
            }
        });
        (upstream.await, changing)
    }

    /// What rustls is given.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Some(suites) = &self.suites {
            provider
                .cipher_suites
                .retain(|suite| suites.contains(&suite.suite()));
        }
        if let Some(groups) = &self.groups {
            provider.kx_groups.retain(|group| groups.contains(&group.name()));
        }
        let signing_key = provider.key_provider.load_private_key(self.identity.key_der());
        let signing_key = signing_key.unwrap();
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some((pem, required)) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate.unwrap()).unwrap();
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if *required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        // Whether they belong together is not asked: rustls cannot read every certificate that is shown.
        let shown = CertifiedKey::new(self.identity.chain_der(), signing_key);
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols = self.alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
        if !self.tickets {
            config.send_tls13_tickets = 0;
        }
        // For those who go on by hand; see `sealed`.
        config.enable_secret_extraction = true;
        Arc::new(config)
    }
}

/// Settings of an upstream that runs.
pub struct Changing(Arc<Mutex<Arc<ServerConfig>>>);

impl Changing {
    /// Connections that come later are served as this says, and no ticket of before is known.
    pub fn to(&self, tls: &Tls) {
        *self.0.lock().unwrap() = tls.config();
    }
}

async fn handshake(
    stream: Tapped,
    config: Arc<ServerConfig>,
    record: &Record,
) -> Option<tokio_rustls::server::TlsStream<Tapped>> {
    let outcome = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let hello = Hello::of(&start.client_hello());
        record.change(|connection| connection.hello = Some(hello));
        start.into_stream(config).await
    };
    match outcome.await {
        Ok(stream) => {
            let session = Session::of(stream.get_ref().1);
            record.change(|connection| connection.session = Some(session));
            Some(stream)
        }
        Err(error) => {
            record.change(|connection| connection.handshake_error = Some(error.to_string()));
            None
        }
    }
}

impl Hello {
    fn of(hello: &rustls::server::ClientHello<'_>) -> Self {
        let alpn = hello.alpn().into_iter().flatten();
        let groups = hello.named_groups().unwrap_or_default();
        Self {
            sni: hello.server_name().map(str::to_owned),
            alpn: alpn.map(|id| String::from_utf8_lossy(id).into_owned()).collect(),
            cipher_suites: hello
                .cipher_suites()
                .iter()
                .map(|suite| format!("{suite:?}"))
                .collect(),
            groups: groups.iter().map(|group| format!("{group:?}")).collect(),
        }
    }
}

impl Session {
    fn of(connection: &rustls::ServerConnection) -> Self {
        let shown = connection.peer_certificates().unwrap_or_default();
        Self {
            version: connection
                .protocol_version()
                .map(|version| format!("{version:?}"))
                .unwrap_or_default(),
            alpn: connection
                .alpn_protocol()
                .map(|id| String::from_utf8_lossy(id).into_owned()),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            client: shown.first().map(|der| der.to_vec()),
            client_chain: shown.iter().map(|der| der.to_vec()).collect(),
        }
    }
}

/// Reads up to the end of an HTTP/1.1 head and gives it.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// 200 `ok`, whatever is asked.
pub fn answer_ok() -> Answer {
    Arc::new(|_| Box::pin(std::future::ready(Response::new(Full::from("ok")))))
}

/// Serves HTTP/1.1 and HTTP/2, records each request and answers it.
pub async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    record: Record,
    answer: Answer,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (record, answer) = (record.clone(), Arc::clone(&answer));
        async move {
            let (head, body) = request.into_parts();
            // A body that breaks off counts as far as it came.
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let (method, uri, version, headers) = (head.method, head.uri, head.version, head.headers);
            let recorded = Recorded {
                method,
                uri,
                version,
                headers,
                body,
            };
            let response = answer(&recorded).await;
            record.change(|connection| connection.requests.push(recorded));
            Ok::<_, Infallible>(response)
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // How the connection ends is the gateway's business.
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// Where one connection is recorded.
#[derive(Clone)]
pub struct Record {
    records: Records,
    position: usize,
}

impl Record {
    fn new(records: &Records, from: SocketAddr) -> Self {
        let mut all = records.lock().unwrap();
        all.push(Connection {
            from: Some(from),
            ..Connection::default()
        });
        Self {
            position: all.len() - 1,
            records: Arc::clone(records),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut self.records.lock().unwrap()[self.position]);
    }
}

/// A TCP stream whose first bytes are kept.
pub struct Tapped {
    stream: TcpStream,
    record: Record,
}

impl AsyncRead for Tapped {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            this.record.change(|connection| {
                let room = KEPT.saturating_sub(connection.bytes.len()).min(new.len());
                connection.bytes.extend_from_slice(&new[..room]);
            });
        }
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
