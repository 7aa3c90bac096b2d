//! The gateway in a cluster: what it reads from the API server, and what it makes of the server's faults.
//!
//! The server is [`api_server::ApiServer`], or a real one where `NUNCIO_TEST_KUBECONFIG` names a kubeconfig of somebody
//! who may do everything; faults come from a [`gate::Gate`] before either. Pods of a real cluster are not on loopback:
//! upstreams are then reached at `NUNCIO_TEST_POD_ADDRESS`, or at the address of this machine's own. Tests of a real
//! cluster see each other's objects, so they take turns.

mod answers;
mod api_server;
mod endpoints;
mod faults;
mod gate;
mod namespaces;
mod objects;
mod place;
mod ports;
mod real;
mod rights;
mod scale;
mod scenarios;
mod secure;
mod serving;
mod status;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use self::api_server::ApiServer;
use self::gate::Gate;
use crate::support::program::{Gateway, KeptPort, Plan, Running, nuncio};
use crate::support::waiting::eventually;

/// A cluster with one namespace of a test's own, and a Listener in it.
struct Cluster {
    /// None where the cluster is a real one.
    server: Option<ApiServer>,
    /// Of somebody who may do everything.
    client: Client,
    /// Where one was asked for.
    gate: Option<Gate>,
    /// The gateway's.
    kubeconfig: PathBuf,
    /// Every object of this test is here, and is for the gateway of this id.
    namespace: String,
    port: KeptPort,
    folder: TempDir,
    /// Of the real cluster.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Cluster {
    /// The cluster that tests are to run against.
    async fn new() -> Self {
        Self::with_roles("nuncio.yaml").await
    }

    /// One whose gateway may do what this file of `deploy/` lets it, where the cluster is a real one.
    async fn with_roles(file: &str) -> Self {
        match real::kubeconfig() {
            Some(path) => Self::real(&path, file).await,
            None => Self::fake().await,
        }
    }

    /// One that its gateway sees through a gate.
    async fn guarded() -> Self {
        Self::new().await.with_gate().await
    }

    /// One whose API server is the one of these tests, whatever was asked for.
    async fn fake() -> Self {
        let server = ApiServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = write_kubeconfig(folder.path(), "kubeconfig", server.address);
        let client = real::client(Kubeconfig::read_from(&path).unwrap()).await;
        let cluster = Self::of(Some(server), client, path, folder);
        cluster.apply(objects::listener(cluster.port.number)).await;
        cluster
    }

    /// A namespace of its own in a real cluster.
    async fn real(admin: &Path, roles: &str) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let admin = Kubeconfig::read_from(admin).unwrap();
        let client = real::client(admin.clone()).await;
        real::install_definitions(&client).await;
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self::of(None, client, PathBuf::new(), folder);
        cluster._turn = Some(turn);
        real::prepare(&cluster.client, &cluster.namespace, roles).await;
        cluster.kubeconfig = real::as_gateway(&admin, &cluster.namespace, cluster.folder.path());
        cluster.apply(objects::listener(cluster.port.number)).await;
        cluster
    }

    async fn with_gate(mut self) -> Self {
        let server = real::client(Kubeconfig::read_from(&self.kubeconfig).unwrap()).await;
        let gate = Gate::before(server).await;
        self.kubeconfig = write_kubeconfig(self.folder.path(), "gate.kubeconfig", gate.address);
        self.gate = Some(gate);
        self
    }

    fn of(server: Option<ApiServer>, client: Client, kubeconfig: PathBuf, folder: TempDir) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            server,
            client,
            gate: None,
            kubeconfig,
            namespace: real::new_namespace(NEXT.fetch_add(1, Ordering::Relaxed)),
            port: KeptPort::new(),
            folder,
            _turn: None,
        }
    }

    fn gate(&self) -> &Gate {
        self.gate.as_ref().unwrap()
    }

    fn gate_mut(&mut self) -> &mut Gate {
        self.gate.as_mut().unwrap()
    }

    /// Lets the API server forget what happened so far.
    async fn compact(&self) {
        let one = ListParams::default().limit(1);
        let list = self.api(objects::OURS, "Mapping").list(&one).await.unwrap();
        let version = list.metadata.resource_version.unwrap();
        self.gate().compact(version.parse().unwrap());
    }

    /// Another namespace of this test's.
    async fn another_namespace(&self, name: &str) -> String {
        let namespace = format!("{}-{name}", self.namespace);
        if self.server.is_none() {
            real::create_namespace(&self.client, &namespace).await;
        }
        namespace
    }

    /// What is said for a gateway that reads this cluster.
    fn plan(&self) -> Plan {
        Gateway::with("")
            .cluster(&self.kubeconfig, self.port.number)
            .env("AMBASSADOR_ID", &self.namespace)
            .env("AMBASSADOR_NAMESPACE", &self.namespace)
    }

    /// Starts a gateway that reads this cluster and binds its Listeners to an address of its own, and waits for
    /// nothing: several can run on one machine.
    fn another(&self, bind: &str) -> Running {
        let kubeconfig = self.kubeconfig.display().to_string();
        let mut command = nuncio(["run", "--kubernetes", "--kubeconfig", &kubeconfig]);
        command.args(["--admin", "127.0.0.1:0", "--bind", bind, "--workers", "1"]);
        command.env("AMBASSADOR_ID", &self.namespace);
        command.env("AMBASSADOR_NAMESPACE", &self.namespace);
        command.env("AMBASSADOR_UPDATE_MAPPING_STATUS", "true");
        Running::start(command)
    }

    /// Creates or changes an object in the test's namespace, for the test's gateway.
    async fn apply(&self, object: Value) {
        self.apply_in(&self.namespace, object).await;
    }

    /// The same in another namespace.
    async fn apply_in(&self, namespace: &str, mut object: Value) {
        object["metadata"]["namespace"] = namespace.into();
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
        let (api_version, kind) = (&object["apiVersion"], &object["kind"]);
        let api = real::api(
            &self.client,
            api_version.as_str().unwrap(),
            kind.as_str().unwrap(),
            Some(namespace),
        );
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("nuncio-tests").force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
    }

    async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        let api = self.api(api_version, kind);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// All objects of a kind in the test's namespace.
    async fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let api = self.api(api_version, kind);
        let all = api.list(&ListParams::default()).await.unwrap();
        let all = all
            .into_iter()
            .map(|object| serde_json::to_value(object).unwrap());
        all.collect()
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

/// Writes a kubeconfig for an API server that speaks no TLS and asks nobody who they are.
fn write_kubeconfig(folder: &Path, name: &str, server: SocketAddr) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = folder.join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
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
