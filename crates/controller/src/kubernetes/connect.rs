//! The way to the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::follow::in_words;
use crate::error::ControllerError;

/// A connection to the API server has this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

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
        config.connect_timeout = Some(CONNECT_LIMIT);
        // Whoever asks tries again, and tells that there is a reason to.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| {
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
