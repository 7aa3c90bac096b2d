//! The way to the API server.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::follow::in_words;
use crate::error::ControllerError;

/// A connection to the API server, TLS and all, has this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A watch of a quiet kind may tell nothing for minutes. So the kernel asks the other end whether it is still there
/// after so long,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// so often,
const KEEPALIVE_EACH: Duration = Duration::from_secs(10);
/// and gives the connection up after so many questions without an answer.
const KEEPALIVE_PROBES: u32 = 3;

/// Names us in the API server's audit log and metrics.
const AGENT: &str = concat!("nuncio/", env!("CARGO_PKG_VERSION"));

/// Which cluster, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// `--kubeconfig`: the file to use instead of `KUBECONFIG`, `~/.kube/config` or the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`: the context of it.
    pub context: Option<String>,
    /// Only this namespace (`AMBASSADOR_SINGLE_NAMESPACE`).
    pub namespace: Option<String>,
    /// Secrets of this namespace only (`AMBASSADOR_CERTS_SINGLE_NAMESPACE`).
    pub secrets_namespace: Option<String>,
    /// `AMBASSADOR_LABEL_SELECTOR`, for every list and watch.
    pub labels: Option<String>,
    /// `AMBASSADOR_FIELD_SELECTOR`, the same.
    pub fields: Option<String>,
    /// `AMBASSADOR_UPDATE_MAPPING_STATUS`: Mappings are told what became of them, too.
    pub mapping_status: bool,
    /// `AMBASSADOR_RECONFIG_MAX_DELAY`: how long edits that do not end are gathered at most.
    pub most_delay: Option<Duration>,
}

impl Cluster {
    pub(super) async fn client(&self) -> Result<Client, ControllerError> {
        let mut config = self.config().await?;
        // Whoever asks tries again, and tells that there is a reason to.
        config.default_retry = false;
        connect(config).map_err(|error| {
            ControllerError::NoCluster(format!(
                "the API server of the kubeconfig cannot be used: {}",
                in_words(&error)
            ))
        })
    }

    async fn config(&self) -> Result<Config, ControllerError> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let wrong = |what: &str, error: &dyn std::error::Error| {
            ControllerError::NoCluster(format!("{what}: {}", in_words(error)))
        };
        if let Some(path) = &self.kubeconfig {
            let what = format!("kubeconfig {} cannot be used", path.display());
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(&what, &error))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(|error| wrong(&what, &error));
        }
        if self.context.is_some() {
            let config = Config::from_kubeconfig(&options).await;
            return config.map_err(|error| wrong("the context of --context cannot be used", &error));
        }
        Config::infer().await.map_err(|error| {
            wrong(
                "no cluster is known; name one with --kubeconfig, or run in a pod with a service account",
                &error,
            )
        })
    }
}

/// As `kube` does it, over connections that notice when the other end is gone.
fn connect(mut config: Config) -> Result<Client, kube::Error> {
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config.connect_timeout = Some(CONNECT_LIMIT);
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EACH));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let mut tls = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    tls.set_connect_timeout(config.connect_timeout);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
