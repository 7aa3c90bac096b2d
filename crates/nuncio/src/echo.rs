//! A test upstream: HTTP/1.1 and HTTP/2, cleartext or TLS, that tells in JSON what it saw.
//!
//! It is an upstream that a user can look into, and the demonstration's counterpart of the gateway.

mod answer;
mod websocket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nuncio_model::{Alpn, TlsVersion};
use nuncio_tls::VersionBound;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cli::EchoArgs;
use crate::failure::Failure;
use crate::{output, signals};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What an echo upstream is like.
pub(crate) struct EchoOptions {
    /// Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Absent for cleartext.
    pub(crate) tls: Option<EchoTls>,
}

/// TLS of an echo upstream.
pub(crate) struct EchoTls {
    /// What is spoken.
    pub(crate) config: Arc<ServerConfig>,
    /// Whether client certificates are asked for; those that arrive are verified.
    pub(crate) verifies_clients: bool,
}

/// A running echo upstream; it ends when this is dropped.
pub(crate) struct EchoHandle {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl EchoHandle {
    /// TCP connections that were accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Starts an echo upstream on the current runtime.
pub(crate) async fn start(options: EchoOptions) -> std::io::Result<EchoHandle> {
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    let tls = options.tls.map(Arc::new);
    let connections = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, tls, Arc::clone(&connections)));
    Ok(EchoHandle {
        address,
        connections,
        _tasks: tasks,
    })
}

async fn accept(listener: TcpListener, tls: Option<Arc<EchoTls>>, count: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(serve(stream, peer, tls.clone()));
                }
                // Out of file descriptors, most likely: others must end before the next can be taken.
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<Arc<EchoTls>>) {
    // A small answer should not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve_http(stream, None, None, peer).await;
    };
    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
        Ok(Ok(stream)) => {
            let session = answer::Session::of(stream.get_ref().1, tls.verifies_clients);
            let alpn = session.alpn.clone();
            serve_http(stream, Some(Arc::new(session)), alpn.as_deref(), peer).await;
        }
        Ok(Err(error)) => tracing::warn!("handshake with {peer} failed: {error}"),
        Err(_) => tracing::warn!("{peer} did not finish its handshake"),
    }
}

async fn serve_http<S>(stream: S, session: Option<Arc<answer::Session>>, alpn: Option<&str>, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(answer::answer(request, session).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).half_close(true);
    builder.http2().timer(TokioTimer::new());
    // Without ALPN the first bytes tell, so that HTTP/2 by prior knowledge works with and without TLS.
    let builder = match alpn {
        Some("h2") => builder.http2_only(),
        Some(_) => builder.http1_only(),
        None => builder,
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("connection of {peer} ended: {error}");
    }
}

/// `nuncio echo`: serves until SIGINT or SIGTERM.
pub(crate) async fn run(args: &EchoArgs) -> Result<ExitCode, Failure> {
    let options = options(args)?;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let listen = options.listen;
    let handle = start(options).await.map_err(|error| {
        Failure::usage(format!(
            "cannot listen on {listen}: {error}; choose another address with --listen"
        ))
    })?;
    let mut signals = signals::Termination::listen()?;
    output::line(format_args!("listening on {scheme}://{}", handle.address));
    signals.next().await;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &EchoArgs) -> Result<EchoOptions, Failure> {
    let listen = args.listen.parse().map_err(|_| {
        let given = &args.listen;
        Failure::usage(format!(
            "--listen {given}: not an address; write IP:PORT, such as 127.0.0.1:8443"
        ))
    })?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(tls(args, certificate, key)?),
        _ => None,
    };
    Ok(EchoOptions { listen, tls })
}

fn tls(args: &EchoArgs, certificate: &Path, key: &Path) -> Result<EchoTls, Failure> {
    let chain = read("--tls-cert", certificate)?;
    let key_pem = read("--tls-key", key)?;
    let client_ca = args
        .client_ca
        .as_deref()
        .map(|path| read("--client-ca", path))
        .transpose()?;
    let config = nuncio_tls::server_config(
        &chain,
        &key_pem,
        client_ca.as_deref(),
        args.require_client_cert,
        &protocols(&args.alpn)?,
        version("--min-tls", &args.min_tls)?,
        version("--max-tls", &args.max_tls)?,
    )
    .map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        Failure::usage(format!(
            "cannot serve with {certificate} and {key}: {}",
            error.message
        ))
    })?;
    Ok(EchoTls {
        config,
        verifies_clients: client_ca.is_some(),
    })
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let path = path.display();
        Failure::usage(format!(
            "{flag} {path}: cannot be read: {error}; name a readable PEM file"
        ))
    })
}

fn protocols(text: &str) -> Result<Vec<Alpn>, Failure> {
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    ids.map(|id| {
        nuncio_tls::alpn_protocol(id).map_err(|_| {
            Failure::usage(format!(
                "--alpn {text}: {id} is not known; use h2, http/1.1 or both"
            ))
        })
    })
    .collect()
}

fn version(flag: &str, text: &str) -> Result<TlsVersion, Failure> {
    match nuncio_tls::version(text) {
        Ok(VersionBound::Spoken(version)) => Ok(version),
        Ok(VersionBound::Retired) => Err(Failure::usage(format!(
            "{flag} {text}: is not spoken any more; use v1.2 or v1.3"
        ))),
        Err(_) => Err(Failure::usage(format!(
            "{flag} {text}: is not a TLS version; use v1.2 or v1.3"
        ))),
    }
}
