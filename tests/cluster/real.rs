//! What a real cluster needs before a test can use it: the definitions, a namespace, and a gateway that may do no more
//! than `deploy/` lets it. Nothing here runs without `NUNCIO_TEST_KUBECONFIG`.

use std::path::{Path, PathBuf};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::objects::OURS;
use super::rights::documents;
use crate::support::waiting::eventually;

/// The kubeconfig of somebody who may do everything, where tests are to run against a real cluster.
pub fn kubeconfig() -> Option<PathBuf> {
    std::env::var_os("NUNCIO_TEST_KUBECONFIG").map(PathBuf::from)
}

pub async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// A name that no earlier run has left behind; without controllers a namespace that is deleted never goes.
pub fn new_namespace(number: u32) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("nuncio-test-{:x}-{number}", now.unwrap().as_micros())
}

/// Installs what `nuncio crds` prints, once for all tests of this run.
pub async fn install_definitions(client: &Client) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            let api = api(
                client,
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                None,
            );
            let definitions = nuncio_crds::definitions();
            for definition in &definitions {
                apply(&api, definition).await;
            }
            for definition in &definitions {
                let name = definition["metadata"]["name"].as_str().unwrap();
                eventually(&format!("{name} is established"), async || {
                    let known = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
                    let conditions = known["status"]["conditions"].as_array()?;
                    let is_so = |condition: &Value| {
                        condition["type"] == "Established" && condition["status"] == "True"
                    };
                    conditions.iter().any(is_so).then_some(())
                })
                .await;
                // It is served a little later.
                let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
                let objects = self::api(client, OURS, kind, None);
                eventually(&format!("{kind} can be listed"), async || {
                    objects.list(&ListParams::default().limit(1)).await.ok().map(drop)
                })
                .await;
            }
        })
        .await;
}

pub async fn create_namespace(client: &Client, namespace: &str) {
    let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    apply(&api(client, "v1", "Namespace", None), &document).await;
}

/// Creates the namespace of a test, and in it the account and the rights that a file of `deploy/` gives a gateway.
pub async fn prepare(client: &Client, namespace: &str, file: &str) {
    create_namespace(client, namespace).await;
    for mut document in documents(file) {
        let kind = document["kind"].as_str().unwrap().to_owned();
        let within = match kind.as_str() {
            "ServiceAccount" | "Role" | "RoleBinding" => Some(namespace),
            "ClusterRole" | "ClusterRoleBinding" => None,
            _ => continue,
        };
        match within {
            Some(_) => document["metadata"]["namespace"] = namespace.into(),
            // Those of other tests have the same name.
            None => document["metadata"]["name"] = namespace.into(),
        }
        if kind == "ClusterRoleBinding" {
            document["roleRef"]["name"] = namespace.into();
        }
        let subjects = document.get_mut("subjects").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            subject["namespace"] = namespace.into();
        }
        let version = document["apiVersion"].as_str().unwrap().to_owned();
        apply(&api(client, &version, &kind, within), &document).await;
    }
}

/// Writes a kubeconfig into `folder` with which one is the gateway's account of a namespace.
pub fn as_gateway(admin: &Kubeconfig, namespace: &str, folder: &Path) -> PathBuf {
    let mut config = admin.clone();
    for user in &mut config.auth_infos {
        let user = user.auth_info.get_or_insert_default();
        user.impersonate = Some(format!("system:serviceaccount:{namespace}:nuncio"));
        user.impersonate_groups = Some(vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ]);
    }
    let path = folder.join("gateway.kubeconfig");
    std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
    path
}

/// Deletes what a test has made, but for its namespace. Addresses of Services are few.
pub async fn clean(client: &Client, namespace: &str) {
    let (params, all) = (DeleteParams::default(), ListParams::default());
    for (version, kind) in [
        (OURS, "Mapping"),
        (OURS, "TLSContext"),
        (OURS, "Host"),
        (OURS, "Listener"),
        (OURS, "Module"),
        ("v1", "Secret"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("coordination.k8s.io/v1", "Lease"),
    ] {
        // What is left behind harms nobody.
        let _ = api(client, version, kind, Some(namespace))
            .delete_collection(&params, &all)
            .await;
    }
    let services = api(client, "v1", "Service", Some(namespace));
    if let Ok(found) = services.list(&all).await {
        for service in found {
            let _ = services
                .delete(&service.metadata.name.unwrap_or_default(), &params)
                .await;
        }
    }
    for kind in ["ClusterRoleBinding", "ClusterRole"] {
        let _ = api(client, "rbac.authorization.k8s.io/v1", kind, None)
            .delete(namespace, &params)
            .await;
    }
}

async fn apply(api: &Api<DynamicObject>, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("nuncio-tests").force();
    api.patch(name, &params, &Patch::Apply(object)).await.unwrap();
}

/// Objects of a kind, in a namespace or in all.
pub fn api(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}
