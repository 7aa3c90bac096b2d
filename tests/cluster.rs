//! The gateway in a cluster: what it reads from the API server, and what it makes of the server's faults.
//!
//! The server is [`api_server::ApiServer`], or a real one where `NUNCIO_TEST_KUBECONFIG` names a kubeconfig of somebody
//! who may do everything; scenarios that need faults on demand are left to the first. Pods of a real cluster are not on
//! loopback: upstreams are then reached at `NUNCIO_TEST_POD_ADDRESS`, or at the address of this machine's own.

mod api_server;
mod endpoints;
mod faults;
mod namespaces;
mod objects;
mod real;
mod rights;
mod scale;
mod scenarios;
mod secure;
mod status;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::Kubeconfig;
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
    /// The gateway's.
    kubeconfig: PathBuf,
    /// Every object of this test is here, and is for the gateway of this id.
    namespace: String,
    port: KeptPort,
    _folder: TempDir,
}

impl Cluster {
    /// The cluster that tests are to run against.
    async fn new() -> Self {
        match real::kubeconfig() {
            Some(path) => Self::real(&path).await,
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
        let client = real::client(Kubeconfig::read_from(&path).unwrap()).await;
        let cluster = Self::of(Some(server), client, path, folder);
        cluster.apply(objects::listener(cluster.port.number)).await;
        cluster
    }

    /// A namespace of its own in a real cluster, whose gateway may do what `deploy/` lets it.
    async fn real(admin: &Path) -> Self {
        let admin = Kubeconfig::read_from(admin).unwrap();
        let client = real::client(admin.clone()).await;
        real::install_definitions(&client).await;
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self::of(None, client, PathBuf::new(), folder);
        real::prepare(&cluster.client, &cluster.namespace).await;
        cluster.kubeconfig = real::as_gateway(&admin, &cluster.namespace, cluster._folder.path());
        cluster.apply(objects::listener(cluster.port.number)).await;
        cluster
    }

    fn of(server: Option<ApiServer>, client: Client, kubeconfig: PathBuf, folder: TempDir) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            server,
            client,
            kubeconfig,
            namespace: real::new_namespace(NEXT.fetch_add(1, Ordering::Relaxed)),
            port: KeptPort::new(),
            _folder: folder,
        }
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
        object["metadata"]["namespace"] = self.namespace.clone().into();
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
        real::api(&self.client, api_version, kind, Some(&self.namespace))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            return;
        }
        // The runtime of the test may end with it.
        let namespace = self.namespace.clone();
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(clean_up(&namespace)))
        });
        let _ = cleaned.join();
    }
}

/// With a client of its own, for those of other runtimes end with them.
async fn clean_up(namespace: &str) {
    if let Some(admin) = real::kubeconfig().and_then(|path| Kubeconfig::read_from(path).ok()) {
        real::clean(&real::client(admin).await, namespace).await;
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
