//! Sorts the objects by kind and drops those that are not ours.
//!
//! Own objects come out in the reference's order of loading, `name.namespace.1` as text (A26): it
//! decides every "first wins" from here on.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::problems::Problems;
use crate::{Object, Options};

/// What nuncio reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Mapping,
    TlsContext,
    Host,
    Listener,
    Module,
    Secret,
    Service,
    Endpoints,
    EndpointSlice,
}

/// The objects of each kind that count.
#[derive(Debug, Default)]
pub(crate) struct Inventory<'a> {
    pub(crate) mappings: Vec<&'a Object>,
    pub(crate) contexts: Vec<&'a Object>,
    pub(crate) hosts: Vec<&'a Object>,
    pub(crate) listeners: Vec<&'a Object>,
    pub(crate) modules: Vec<&'a Object>,
    pub(crate) secrets: Vec<&'a Object>,
    pub(crate) services: Vec<&'a Object>,
    pub(crate) endpoints: Vec<&'a Object>,
    pub(crate) slices: Vec<&'a Object>,
}

/// The objects with every `List` replaced by its items.
pub(crate) fn expand<'a>(objects: &'a [Object], problems: &mut Problems) -> Vec<Cow<'a, Object>> {
    let mut expanded = Vec::with_capacity(objects.len());
    for object in objects {
        if !object.is_list() {
            expanded.push(Cow::Borrowed(object));
            continue;
        }
        let Value::Array(items) = object.document.value()["items"].take() else {
            continue;
        };
        for item in items {
            match Object::from_document(item, object.place.clone()) {
                Ok(item) => expanded.push(Cow::Owned(item)),
                Err(problem) => problems.add(*problem),
            }
        }
    }
    expanded
}

impl<'a> Inventory<'a> {
    /// Takes stock. Unread kinds get a notice, duplicates an error; objects for another gateway are
    /// left out without a word.
    pub(crate) fn take(objects: &'a [Cow<'_, Object>], options: &Options, problems: &mut Problems) -> Self {
        let mut inventory = Self::default();
        let mut seen = HashSet::with_capacity(objects.len());
        for object in objects.iter().map(|object| &**object) {
            let Some(kind) = kind_of(&object.api_version, object) else {
                problems.notice(object, "not_read", "", not_read_message(object));
                continue;
            };
            if options.single_namespace && *object.reference.namespace != *options.namespace {
                continue;
            }
            if kind.has_ambassador_id() && !is_for(object, &options.ambassador_id, problems) {
                continue;
            }
            if seen.insert((kind, &object.reference.namespace, &object.reference.name)) {
                inventory.list(kind).push(object);
            } else {
                let message = format!(
                    "{} is defined a second time, and the first definition is kept; remove one",
                    object.reference
                );
                problems.error(object, "duplicate", "metadata.name", message);
            }
        }
        for list in [
            &mut inventory.mappings,
            &mut inventory.contexts,
            &mut inventory.hosts,
            &mut inventory.listeners,
            &mut inventory.modules,
        ] {
            list.sort_by_cached_key(|object| format!("{}.1", object.reference.qualified()));
        }
        inventory
    }

    fn list(&mut self, kind: Kind) -> &mut Vec<&'a Object> {
        match kind {
            Kind::Mapping => &mut self.mappings,
            Kind::TlsContext => &mut self.contexts,
            Kind::Host => &mut self.hosts,
            Kind::Listener => &mut self.listeners,
            Kind::Module => &mut self.modules,
            Kind::Secret => &mut self.secrets,
            Kind::Service => &mut self.services,
            Kind::Endpoints => &mut self.endpoints,
            Kind::EndpointSlice => &mut self.slices,
        }
    }
}

impl Kind {
    fn has_ambassador_id(self) -> bool {
        matches!(
            self,
            Self::Mapping | Self::TlsContext | Self::Host | Self::Listener | Self::Module
        )
    }
}

/// Index by namespace and name.
pub(crate) fn by_name<'a>(objects: &[&'a Object]) -> HashMap<(&'a str, &'a str), &'a Object> {
    objects
        .iter()
        .map(|object| ((&*object.reference.namespace, &*object.reference.name), *object))
        .collect()
}

fn kind_of(api_version: &str, object: &Object) -> Option<Kind> {
    match (api_version, object.kind.as_str()) {
        ("getambassador.io/v3alpha1", "Mapping") => Some(Kind::Mapping),
        ("getambassador.io/v3alpha1", "TLSContext") => Some(Kind::TlsContext),
        ("getambassador.io/v3alpha1", "Host") => Some(Kind::Host),
        ("getambassador.io/v3alpha1", "Listener") => Some(Kind::Listener),
        ("getambassador.io/v3alpha1", "Module") if &*object.reference.name == "ambassador" => {
            Some(Kind::Module)
        }
        ("v1", "Secret") => Some(Kind::Secret),
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Endpoints") => Some(Kind::Endpoints),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        _ => None,
    }
}

fn not_read_message(object: &Object) -> String {
    let Object {
        api_version, kind, ..
    } = object;
    let read_elsewhere = kind_of("getambassador.io/v3alpha1", object).is_some();
    if api_version.contains("getambassador.io/") && read_elsewhere {
        return format!(
            "{kind} of {api_version} is not read by nuncio; write it as getambassador.io/v3alpha1"
        );
    }
    if kind == "Module" && api_version.starts_with("getambassador.io/") {
        return format!(
            "Module `{}` is not read by nuncio; only the one named `ambassador` is",
            object.reference.name
        );
    }
    format!("{kind} of {api_version} is not read by nuncio")
}

/// Whether `ambassador_id` lets this gateway have the object (A16, A17). An explicit empty list is for
/// nobody (A18).
fn is_for(object: &Object, id: &str, problems: &mut Problems) -> bool {
    if !object.document.mentions("ambassador") {
        return id == "default";
    }
    let document = object.document.value();
    let spec = document.get("spec");
    let field = |name| {
        spec.and_then(|spec| spec.get(name))
            .filter(|value| !value.is_null())
    };
    let accepts = |text: &str| text == id || text == "_automatic_";
    match field("ambassador_id").or_else(|| field("ambassadorId")) {
        None => id == "default",
        Some(Value::String(text)) => accepts(text),
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).any(accepts)
        }
        Some(_) => {
            let message = "`spec.ambassador_id` is neither a text nor a list of texts, so the object is for no gateway; correct it";
            problems.error(object, "wrong_type", "spec.ambassador_id", message);
            false
        }
    }
}
