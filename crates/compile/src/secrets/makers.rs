//! Secrets that are not in the manifests because something else in them makes the Secret.

use foldhash::{HashMap, HashMapExt};
use serde_json::Value;

use super::SecretName;
use crate::Object;
use crate::inventory::Expanded;

/// Where a kind says the name of the Secret that it makes.
enum Name {
    /// In this field, as a JSON pointer.
    Field(&'static str),
    /// In this field, or else it is its own.
    FieldOrOwn(&'static str),
    Own,
    /// In a field of each element of a list.
    Each(&'static str, &'static str),
}

/// Group and kind of what makes Secrets, and where it names them. Sources: the definitions of cert-manager, External
/// Secrets Operator and its forerunner, Sealed Secrets, Vault Secrets Operator, Secrets Store CSI Driver, the operators
/// of 1Password and of sops, and vault-secrets-operator of ricoberger.
const MAKERS: &[(&str, &str, Name)] = &[
    ("cert-manager.io", "Certificate", Name::Field("/spec/secretName")),
    (
        "external-secrets.io",
        "ExternalSecret",
        Name::FieldOrOwn("/spec/target/name"),
    ),
    ("kubernetes-client.io", "ExternalSecret", Name::Own),
    (
        "bitnami.com",
        "SealedSecret",
        Name::FieldOrOwn("/spec/template/metadata/name"),
    ),
    (
        "secrets.hashicorp.com",
        "VaultStaticSecret",
        Name::Field("/spec/destination/name"),
    ),
    (
        "secrets.hashicorp.com",
        "VaultDynamicSecret",
        Name::Field("/spec/destination/name"),
    ),
    (
        "secrets.hashicorp.com",
        "VaultPKISecret",
        Name::Field("/spec/destination/name"),
    ),
    (
        "secrets-store.csi.x-k8s.io",
        "SecretProviderClass",
        Name::Each("/spec/secretObjects", "secretName"),
    ),
    (
        "isindir.github.com",
        "SopsSecret",
        Name::Each("/spec/secretTemplates", "name"),
    ),
    ("onepassword.com", "OnePasswordItem", Name::Own),
    ("ricoberger.de", "VaultSecret", Name::Own),
];

/// What makes each Secret.
pub(super) type Makers = HashMap<SecretName, String>;

pub(super) fn makers(objects: &[Expanded<'_>]) -> Makers {
    let mut makers = Makers::new();
    for object in objects {
        for name in made_by(object) {
            let name = SecretName {
                namespace: object.reference.namespace.to_string(),
                name,
            };
            makers.entry(name).or_insert_with(|| object.reference.to_string());
        }
    }
    makers
}

fn made_by(object: &Object) -> Vec<String> {
    let group = object.api_version.split('/').next().unwrap_or_default();
    if object.kind == "Ingress" {
        return made_for_ingress(object);
    }
    let known = |maker: &&(&str, &str, Name)| maker.0 == group && maker.1 == object.kind;
    let Some((_, _, name)) = MAKERS.iter().find(known) else {
        return Vec::new();
    };
    let own = || Some(object.reference.name.to_string());
    let document = object.document.value();
    let field = |pointer: &str| document.pointer(pointer).and_then(string);
    match name {
        Name::Field(pointer) => field(pointer).into_iter().collect(),
        Name::FieldOrOwn(pointer) => field(pointer).or_else(own).into_iter().collect(),
        Name::Own => own().into_iter().collect(),
        Name::Each(list, name) => {
            let elements = document.pointer(list).and_then(Value::as_array);
            let names = elements
                .into_iter()
                .flatten()
                .filter_map(|element| element.get(name).and_then(string));
            names.collect()
        }
    }
}

/// cert-manager makes the Secrets of an Ingress that names an issuer in an annotation.
fn made_for_ingress(object: &Object) -> Vec<String> {
    let mut annotations = object.annotations.keys();
    if !annotations.any(|key| key.starts_with("cert-manager.io/")) {
        return Vec::new();
    }
    let document = object.document.value();
    let entries = document.pointer("/spec/tls").and_then(Value::as_array);
    let names = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("secretName").and_then(string));
    names.collect()
}

fn string(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

/// Whether sops has encrypted the values of a Secret: it leaves a field of its own beside them.
pub(super) fn is_of_sops(secret: &Object) -> bool {
    secret.document.mentions("\"sops\"") && secret.document.value()["sops"].is_object()
}
