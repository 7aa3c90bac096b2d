//! Sorts the objects by kind and drops those that are not ours.
//!
//! Own objects come out in the reference's order of loading, `name.namespace.1` as text (A26): it
//! decides every "first wins" from here on.

use std::borrow::Cow;
use std::ops::Deref;

use foldhash::{HashMap, HashSet, HashSetExt};
use nuncio_model::{Guard, Problem};
use serde_json::Value;

use crate::conversion::{self, Age, STORED_AS_V2};
use crate::decode;
use crate::object::Gateways;
use crate::placeholder::Placeholder;
use crate::problems::Problems;
use crate::tellable::tellable;
use crate::unread::{self, Left};
use crate::{Object, Objects, Options};

/// A document of an annotation.
type Annotated = Result<Object, Box<Problem>>;

/// An object as it was given, or one that was found inside of another.
pub(crate) enum Expanded<'a> {
    Given(&'a Object),
    Found(Box<Object>),
}

impl Deref for Expanded<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        match self {
            Self::Given(object) => object,
            Self::Found(object) => object,
        }
    }
}

/// What nuncio reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Mapping,
    TlsContext,
    Host,
    Listener,
    Module,
    KubernetesServiceResolver,
    KubernetesEndpointResolver,
    ConsulResolver,
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
    pub(crate) resolvers: Vec<&'a Object>,
    pub(crate) secrets: Vec<&'a Object>,
    pub(crate) services: Vec<&'a Object>,
    pub(crate) endpoints: Vec<&'a Object>,
    pub(crate) slices: Vec<&'a Object>,
    /// Of kinds that are not read.
    pub(crate) guards: Vec<Guard>,
    /// There is an object that was meant as a Host.
    pub(crate) lost_a_host: bool,
}

/// The objects with every `List` replaced by its items, and after them those that annotations hold, in their order of
/// loading: of two with one name an object of its own counts, and in a cluster no chance decides.
pub(crate) fn expand<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
    problems: &mut Problems,
) -> Vec<Expanded<'a>> {
    let objects = objects.into_iter();
    let mut expanded = Vec::with_capacity(objects.size_hint().0);
    let mut annotated = Vec::new();
    for object in objects {
        if !object.is_list() {
            expanded.push(Expanded::Given(object));
            annotated.extend(object.annotated.iter().map(Cow::Borrowed));
            continue;
        }
        expand_list(object, &mut expanded, &mut annotated, problems, 0);
    }
    expanded.extend(in_order(annotated, problems));
    expanded
}

/// All objects as compile sees them: the items of a `List`, and what annotations hold.
pub fn expanded(objects: &Objects) -> Vec<Object> {
    // Compile reports what is wrong with them.
    let mut unheard = Problems::default();
    let expanded = expand(&objects.objects, &mut unheard);
    expanded.iter().map(|object| Object::clone(object)).collect()
}

/// Lists in lists that are looked into.
const LISTS: usize = 3;

/// The items of a list, and of lists in it.
fn expand_list<'a>(
    list: &Object,
    expanded: &mut Vec<Expanded<'a>>,
    annotated: &mut Vec<Cow<'a, Annotated>>,
    problems: &mut Problems,
    depth: usize,
) {
    let Value::Array(items) = list.document.value()["items"].take() else {
        return;
    };
    let of_kind = list.kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    for (index, mut item) in items.into_iter().enumerate() {
        // The API server leaves out of its lists of one kind what their own head says.
        if let (Some(kind), Value::Object(item)) = (of_kind, &mut item)
            && !item.contains_key("kind")
            && !item.contains_key("apiVersion")
        {
            item.insert("kind".into(), kind.into());
            item.insert("apiVersion".into(), list.api_version.as_str().into());
        }
        match Object::from_document(item, list.place.clone()) {
            Ok(item) if item.is_list() && depth < LISTS => {
                expand_list(&item, expanded, annotated, problems, depth + 1);
            }
            Ok(mut item) => {
                annotated.extend(std::mem::take(&mut item.annotated).into_iter().map(Cow::Owned));
                expanded.push(Expanded::Found(Box::new(item)));
            }
            Err(mut problem) => {
                let field = problem.field.unwrap_or_default();
                problem.field = Some(decode::join(&format!("items[{index}]"), &field));
                problems.add(*problem);
            }
        }
    }
}

fn in_order<'a>(annotated: Vec<Cow<'a, Annotated>>, problems: &mut Problems) -> Vec<Expanded<'a>> {
    let mut objects = Vec::with_capacity(annotated.len());
    for one in annotated {
        match one {
            Cow::Borrowed(Ok(object)) => objects.push(Expanded::Given(object)),
            Cow::Owned(Ok(object)) => objects.push(Expanded::Found(Box::new(object))),
            Cow::Borrowed(Err(problem)) => problems.add((**problem).clone()),
            Cow::Owned(Err(problem)) => problems.add(*problem),
        }
    }
    objects.sort_by(|a, b| a.order().cmp(b.order()));
    objects
}

impl<'a> Inventory<'a> {
    /// Takes stock. Unread kinds get a notice, duplicates an error; objects for another gateway are
    /// left out without a word.
    pub(crate) fn take(objects: &'a [Expanded<'_>], options: &Options, problems: &mut Problems) -> Self {
        let mut inventory = Self::default();
        let mut seen = HashSet::with_capacity(objects.len());
        let mut foreign = Vec::new();
        for object in objects.iter().map(|object| &**object) {
            let Some(kind) = kind_of(&object.api_version, object) else {
                if inventory.leave_out(object, objects, options, problems) {
                    foreign.push(object);
                }
                continue;
            };
            let own_only =
                options.single_namespace || (options.certs_single_namespace && kind == Kind::Secret);
            if own_only && *object.reference.namespace != *options.namespace {
                continue;
            }
            if kind.has_ambassador_id() && !is_for(object, &options.ambassador_id, problems) {
                continue;
            }
            tell_age(object, problems);
            tell_annotations(object, problems);
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
            &mut inventory.resolvers,
        ] {
            list.sort_by(|a, b| a.order().cmp(b.order()));
        }
        unread::report_foreign(&foreign, problems);
        inventory
    }

    /// Reports an object that is not read, unless it is for another gateway or of a kind that is none of ours, which
    /// this gives.
    fn leave_out(
        &mut self,
        object: &Object,
        objects: &[Expanded<'_>],
        options: &Options,
        problems: &mut Problems,
    ) -> bool {
        let id = &options.ambassador_id;
        let is_elsewhere = options.single_namespace && *object.reference.namespace != *options.namespace;
        let is_of_another = if unread::is_ambassadors(object) {
            // One whose id cannot be read may be ours, and may guard.
            let mut told = Problems::default();
            !is_for(object, id, &mut told) && told.count() == 0
        } else {
            unread::is_ingress_of_another(object, id)
        };
        if is_of_another || (is_elsewhere && unread::is_ambassadors(object)) {
            return false;
        }
        let classes = match object.kind.as_str() {
            "Ingress" => unread::ingress_classes(objects.iter().map(|object| &**object)),
            _ => Vec::new(),
        };
        match unread::report(object, &classes, problems) {
            Left::Nothing => {}
            Left::Foreign => return true,
            Left::Guard(guard) => self.guards.push(*guard),
            Left::Host => self.lost_a_host = true,
        }
        false
    }

    fn list(&mut self, kind: Kind) -> &mut Vec<&'a Object> {
        match kind {
            Kind::Mapping => &mut self.mappings,
            Kind::TlsContext => &mut self.contexts,
            Kind::Host => &mut self.hosts,
            Kind::Listener => &mut self.listeners,
            Kind::Module => &mut self.modules,
            Kind::KubernetesServiceResolver | Kind::KubernetesEndpointResolver | Kind::ConsulResolver => {
                &mut self.resolvers
            }
            Kind::Secret => &mut self.secrets,
            Kind::Service => &mut self.services,
            Kind::Endpoints => &mut self.endpoints,
            Kind::EndpointSlice => &mut self.slices,
        }
    }
}

impl Kind {
    fn has_ambassador_id(self) -> bool {
        !matches!(
            self,
            Self::Secret | Self::Service | Self::Endpoints | Self::EndpointSlice
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
    if conversion::age(api_version).is_some() {
        return kind_of_ours(object);
    }
    match (api_version, object.kind.as_str()) {
        ("v1", "Secret") => Some(Kind::Secret),
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Endpoints") => Some(Kind::Endpoints),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        _ => None,
    }
}

fn kind_of_ours(object: &Object) -> Option<Kind> {
    match object.kind.as_str() {
        "Mapping" => Some(Kind::Mapping),
        "TLSContext" => Some(Kind::TlsContext),
        "Host" => Some(Kind::Host),
        "Listener" => Some(Kind::Listener),
        "Module" if &*object.reference.name == "ambassador" => Some(Kind::Module),
        "KubernetesServiceResolver" => Some(Kind::KubernetesServiceResolver),
        "KubernetesEndpointResolver" => Some(Kind::KubernetesEndpointResolver),
        "ConsulResolver" => Some(Kind::ConsulResolver),
        _ => None,
    }
}

/// Those that nuncio reads stand on a TLSContext, which looks at its own.
fn tell_annotations(object: &Object, problems: &mut Problems) {
    if object.kind == "TLSContext" {
        return;
    }
    for key in object.annotations.keys().filter(|key| key.starts_with("nuncio/")) {
        let message = format!(
            "nuncio reads no annotation of a {}, so `{}` has no effect; write it on the TLSContext that `spec.tls` names",
            object.kind,
            tellable(key)
        );
        let field = format!("metadata.annotations.{key}");
        problems.warning(object, "no_effect", &field, message);
    }
}

/// A4: both are deprecated where they are written, and read all the same.
fn tell_age(object: &Object, problems: &mut Problems) {
    let version = object.written_version();
    let how = match conversion::age(&object.api_version) {
        Some(Age::Deprecated) => "is deprecated",
        Some(Age::Unsupported) => "is no version of today",
        Some(Age::Current) | None => return,
    };
    let message = format!("{version} {how} and is read as getambassador.io/v3alpha1; write it as that");
    problems.notice(object, "old_version", "apiVersion", message);
}

/// The mark that the reference leaves in what it stores as v2. Where it shows, nobody has converted the object, and its
/// other fields mean what they meant in v2.
fn tell_stored_as_v2(object: &Object, problems: &mut Problems) {
    let message = format!(
        "`spec.ambassador_id` has the mark `{STORED_AS_V2}`, so the object is stored as v2, read without conversion and for no gateway; write it again as v3alpha1"
    );
    problems.error(object, "stored_as_v2", "spec.ambassador_id", message);
}

/// Whether an object of a kind that has an `ambassador_id` is for the gateway of this one.
pub fn is_for_gateway(object: &Object, id: &str) -> bool {
    is_for(object, id, &mut Problems::default())
}

/// Whether an object is of a kind that has an `ambassador_id`, and that names others, without anything to be told of
/// it: then to leave it out makes no difference to this gateway.
pub fn is_for_another_gateway(object: &Object, id: &str) -> bool {
    let mut told = Problems::default();
    conversion::age(&object.api_version).is_some() && !is_for(object, id, &mut told) && told.count() == 0
}

/// Whether `ambassador_id` lets this gateway have the object (A16, A17). An explicit empty list is for
/// nobody (A18).
fn is_for(object: &Object, id: &str, problems: &mut Problems) -> bool {
    let accepts = |text: &str| text == id || text == "_automatic_";
    match object.gateways() {
        Gateways::Unsaid => id == "default",
        Gateways::Of(texts) => {
            if texts.iter().any(|text| text.starts_with(STORED_AS_V2)) {
                tell_stored_as_v2(object, problems);
            }
            if let Some(left) = texts.iter().find_map(|text| Placeholder::in_name(text)) {
                let message = format!("`spec.ambassador_id` {}", left.message());
                problems.error(object, "template", "spec.ambassador_id", message);
            }
            texts.iter().any(|text| accepts(text))
        }
        Gateways::Unreadable => {
            let message = "`spec.ambassador_id` is neither a string nor a list of strings, so the object is for no gateway; put ids in quotes";
            problems.error(object, "wrong_type", "spec.ambassador_id", message);
            false
        }
    }
}
