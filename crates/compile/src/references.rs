//! Which Secrets and files objects name, so that nobody needs to keep the others.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::HashSet;
use serde_json::Value;

use crate::inventory::{self, Inventory};
use crate::problems::Problems;
use crate::{Object, Options};

/// Fields of a TLSContext's `spec` that name a Secret,
const OF_CONTEXT: [&str; 3] = ["secret", "ca_secret", "crl_secret"];
/// and those that name a file.
const FILES: [&str; 4] = [
    "cert_chain_file",
    "private_key_file",
    "cacert_chain_file",
    "crl_file",
];
/// Fields of a Host's `spec.tls` that name a Secret.
const OF_HOST_TLS: [&str; 3] = ["ca_secret", "caSecret", "crl_secret"];

/// What an object names, whoever it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct References {
    /// Namespace and name. Whether a dot in a name separates the namespace depends on more than the object, so a
    /// name with one stands for both.
    secrets: Vec<(Arc<str>, Arc<str>)>,
    files: Vec<PathBuf>,
}

impl References {
    pub(crate) fn of(object: &Object) -> Self {
        let mut references = Self::default();
        match object.kind.as_str() {
            "TLSContext" => references.add_context(object),
            "Host" => references.add_host(object),
            _ => {}
        }
        references
    }

    fn add_context(&mut self, object: &Object) {
        let document = object.document.value();
        let spec = &document["spec"];
        for field in OF_CONTEXT {
            self.add(&spec[field], &object.reference.namespace);
        }
        let files = FILES.iter().filter_map(|field| spec[field].as_str());
        self.files = files.filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    }

    fn add_host(&mut self, object: &Object) {
        let document = object.document.value();
        let (spec, own) = (&document["spec"], &object.reference.namespace);
        for field in OF_HOST_TLS {
            self.add(&spec["tls"][field], own);
        }
        let secret = &spec["tlsSecret"];
        let namespace = secret["namespace"].as_str().filter(|text| !text.is_empty());
        if let Some(name) = secret["name"].as_str().filter(|name| !name.is_empty()) {
            let namespace = namespace.map_or_else(|| Arc::clone(own), Arc::from);
            self.secrets.push((namespace, name.into()));
        }
    }

    fn add(&mut self, name: &Value, namespace: &Arc<str>) {
        let Some(text) = name.as_str().filter(|text| !text.is_empty()) else {
            return;
        };
        self.secrets.push((Arc::clone(namespace), text.into()));
        if let Some((name, elsewhere)) = text.rsplit_once('.') {
            self.secrets.push((elsewhere.into(), name.into()));
        }
    }
}

/// Namespace and name of every Secret that a TLSContext or Host of ours may mean.
pub fn referenced_secrets(objects: &[Object], options: &Options) -> HashSet<(Arc<str>, Arc<str>)> {
    let mut unheard = Problems::default();
    let naming = objects
        .iter()
        .filter(|object| object.may_hold(&["TLSContext", "Host"]));
    let expanded = inventory::expand(naming, &mut unheard);
    let inventory = Inventory::take(&expanded, options, &mut unheard);
    let own_only = options.single_namespace || options.certs_single_namespace;
    let of_ours = inventory.contexts.iter().chain(&inventory.hosts);
    of_ours
        .flat_map(|object| &object.references().secrets)
        .filter(|(namespace, _)| !own_only || **namespace == *options.namespace)
        .cloned()
        .collect()
}

/// Files that TLSContexts name; whoever calls [`crate::compile`] reads them into [`crate::Objects::files`].
pub fn referenced_files(objects: &[Object]) -> Vec<PathBuf> {
    let naming = objects.iter().filter(|object| object.may_hold(&["TLSContext"]));
    let expanded = inventory::expand(naming, &mut Problems::default());
    let files: BTreeSet<&PathBuf> = expanded
        .iter()
        .flat_map(|object| &object.references().files)
        .collect();
    files.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, spec: &Value) -> Object {
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": kind,
            "metadata": {"name": "it", "namespace": "here"}, "spec": spec,
        });
        Object::from_document(document, None).unwrap()
    }

    #[test]
    fn every_secret_that_may_be_meant_is_named_and_no_other() {
        let objects = [
            object(
                "TLSContext",
                &json!({"secret": "client", "ca_secret": "ca.there", "crl_secret": ""}),
            ),
            object(
                "Host",
                &json!({"tlsSecret": {"name": "server"}, "tls": {"ca_secret": "callers"}}),
            ),
            object("Mapping", &json!({"prefix": "/", "service": "secret"})),
        ];
        let named = referenced_secrets(&objects, &Options::default());
        let mut named: Vec<_> = named
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        named.sort();
        assert_eq!(
            named,
            [
                "here/ca.there",
                "here/callers",
                "here/client",
                "here/server",
                "there/ca"
            ]
        );
    }

    #[test]
    fn what_an_object_of_another_gateway_names_does_not_count() {
        let objects = [object(
            "TLSContext",
            &json!({"secret": "client", "ambassador_id": ["other"]}),
        )];
        assert!(referenced_secrets(&objects, &Options::default()).is_empty());
    }
}
