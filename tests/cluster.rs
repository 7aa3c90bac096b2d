//! The gateway in a cluster: what it reads from the API server, and what it makes of the server's faults.
//!
//! The server is [`api_server::ApiServer`], or a real one where `NUNCIO_TEST_KUBECONFIG` names a kubeconfig; scenarios
//! that need faults on demand are left to the first.

mod api_server;
mod endpoints;
mod faults;
mod namespaces;
mod objects;
mod rights;
mod scale;
mod scenarios;
mod status;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::api_server::ApiServer;
use crate::support::program::{Gateway, KeptPort, Plan};
use crate::support::waiting::eventually;

/// A cluster with one namespace of a test's own, and a Listener in it.
struct Cluster {
    /// None where the cluster is a real one.
    server: Option<ApiServer>,
    client: Client,
    kubeconfig: PathBuf,
    /// Every object of this test is here, and is for the gateway of this id.
    namespace: String,
    port: KeptPort,
    _folder: TempDir,
}

impl Cluster {
    /// The cluster that tests are to run against.
    async fn new() -> Self {
        match std::env::var_os("NUNCIO_TEST_KUBECONFIG") {
            Some(path) => Self::at(None, path.into()).await,
            None => Self::fake().await,
        }
    }

    /// One whose API server does as a test says.
    async fn fake() -> Self {
        let server = ApiServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", server.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        let mut cluster = Self::at(Some(server), path).await;
        cluster._folder = folder;
        cluster
    }

    async fn at(server: Option<ApiServer>, kubeconfig: PathBuf) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let cluster = Self {
            server,
            client: Client::try_from(config.unwrap()).unwrap(),
            kubeconfig,
            namespace: format!("nuncio-test-{}-{number}", std::process::id()),
            port: KeptPort::new(),
            _folder: tempfile::tempdir().unwrap(),
        };
        if cluster.server.is_none() {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}});
            cluster.apply(namespace).await;
        }
        cluster.apply(objects::listener(cluster.port.number)).await;
        cluster
    }

    fn server(&self) -> &ApiServer {
        self.server.as_ref().unwrap()
    }

    /// What is said for a gateway that reads this cluster.
    fn plan(&self) -> Plan {
        Gateway::with("")
            .cluster(&self.kubeconfig, self.port.number)
            .env("AMBASSADOR_ID", &self.namespace)
            .env("AMBASSADOR_NAMESPACE", &self.namespace)
    }

    /// Creates or changes an object in the test's namespace, for the test's gateway.
    async fn apply(&self, mut object: Value) {
        let is_namespace = object["kind"] == "Namespace";
        if !is_namespace {
            object["metadata"]["namespace"] = self.namespace.clone().into();
        }
        if object["apiVersion"]
            .as_str()
            .unwrap()
            .starts_with("getambassador.io/")
        {
            object["spec"]["ambassador_id"] = json!([self.namespace]);
        }
        if let Some(server) = self.server.as_ref() {
            server.put(&object);
            return;
        }
        let api = self.api(
            object["apiVersion"].as_str().unwrap(),
            object["kind"].as_str().unwrap(),
        );
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("nuncio-tests").force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
    }

    async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        let api = self.api(api_version, kind);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// An object as the API server has it.
    async fn get(&self, api_version: &str, kind: &str, name: &str) -> Value {
        let object = self.api(api_version, kind).get(name).await.unwrap();
        serde_json::to_value(object).unwrap()
    }

    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "Namespace" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }
}

/// Waits until the admin interface tells of a problem with this reason, or tells of it no more.
async fn problem_is_told(gateway: &Gateway, reason: &str, told: bool) {
    eventually(
        &format!("{reason} is {}", if told { "told" } else { "over" }),
        async || {
            let problems = gateway.problems().await;
            let is_told = problems.iter().any(|problem| problem["reason"] == reason);
            (is_told == told).then_some(())
        },
    )
    .await;
}
