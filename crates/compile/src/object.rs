//! Objects as they were read, before anything is made of them.

mod head;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use nuncio_model::{ObjectRef, Place, Problem, Severity};
use serde_json::Value;

use crate::annotation::{self, Annotation};
use crate::conversion::{self, Age};
use crate::references::References;
use head::Flaw;

/// A Kubernetes object as a manifest or the API server gave it.
///
/// Its `Debug` form is its name alone: the document may be a Secret.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// `getambassador.io/v3alpha1`, `v1`, ...; as it was written, though the document of an older version is
    /// converted.
    pub api_version: String,
    /// `Mapping`, `Secret`, ...
    pub kind: String,
    /// Its name; the namespace is `default` where the document gives none.
    pub reference: ObjectRef,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// The whole document.
    pub document: Document,
    /// Where its document starts; absent outside file mode.
    pub place: Option<Place>,
    /// What its annotation `getambassador.io/config` holds, or why a document there is no object.
    pub(crate) annotated: Vec<Result<Object, Box<Problem>>>,
    /// The annotation that it stands in.
    pub(crate) annotation: Option<Box<Annotation>>,
    /// See [`Self::order`].
    order: Derived<Box<str>>,
    /// See [`Self::gateways`].
    gateways: Derived<Gateways>,
    /// See [`Self::references`].
    references: Derived<References>,
}

/// The gateways that an object is for (A16 to A18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gateways {
    /// It does not say.
    Unsaid,
    /// Those of these ids; of none where there is none.
    Of(Box<[Box<str>]>),
    /// What it says has the wrong type.
    Unreadable,
}

/// What follows from the rest of an object, found out when it is first asked for: every compile asks again.
#[derive(Clone)]
struct Derived<T>(OnceLock<T>);

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

/// Whether it was asked for makes no difference.
impl<T> PartialEq for Derived<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A document as compact JSON text.
///
/// A tree of 10,000 small documents takes ten times the memory of their text, for as long as the
/// gateway runs; reading one again takes microseconds, once per compile.
#[derive(Clone, PartialEq, Eq)]
pub struct Document(Arc<str>);

impl Document {
    /// The document as a tree.
    pub fn value(&self) -> Value {
        // It was written by `From<&Value>`, so it can be read.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Whether `text` stands anywhere in the document, in a key or a value.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// A deserializer over the document.
    pub(crate) fn reader(&self) -> serde_json::Deserializer<serde_json::de::StrRead<'_>> {
        serde_json::Deserializer::from_str(&self.0)
    }
}

/// What tells whether an object is the same as in an earlier compile.
#[derive(Clone, PartialEq)]
pub(crate) struct Version {
    document: Document,
    place: Option<Place>,
    annotation: Option<Box<Annotation>>,
}

impl Version {
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            document: object.document.clone(),
            place: object.place.clone(),
            annotation: object.annotation.clone(),
        }
    }

    pub(crate) fn is_of(&self, object: &Object) -> bool {
        self.document == object.document && self.place == object.place && self.annotation == object.annotation
    }
}

impl From<&Value> for Document {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reference, self.api_version)
    }
}

/// Everything that a compile works on.
///
/// Its `Debug` form counts and does not show: files may hold private keys.
#[derive(Clone, Default, PartialEq)]
pub struct Objects {
    /// In the order they were read. Of two with one kind, namespace and name the first counts.
    pub objects: Vec<Object>,
    /// What [`crate::referenced_files`] and [`crate::istio_files`] named: the contents, or why they could not be read.
    pub files: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    /// Found while loading; they go first into the snapshot's problems.
    pub problems: Vec<Problem>,
    /// Namespaces whose Secrets the API server does not let us read.
    pub forbidden_secrets: BTreeSet<String>,
    /// Every Service of the cluster is among the objects, or with `single_namespace` every one of that: one that is not
    /// there does not exist. Manifests seldom hold them.
    pub all_services: bool,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} objects, {} files, {} problems",
            self.objects.len(),
            self.files.len(),
            self.problems.len()
        )
    }
}

impl Object {
    /// Reads the head of a document: `apiVersion`, `kind` and `metadata`, and the objects in its annotation. A `List`
    /// is an object too; compile takes its items.
    ///
    /// # Errors
    /// The problem, where one of the three is missing or has the wrong type.
    pub fn from_document(mut document: Value, place: Option<Place>) -> Result<Self, Box<Problem>> {
        let fail = |flaw: Flaw| {
            Box::new(Problem {
                severity: Severity::Error,
                reason: flaw.reason.into(),
                message: flaw.message,
                object: None,
                field: Some(flaw.field),
                place: place.clone(),
            })
        };
        head::refuse_other_than_object(&document).map_err(fail)?;
        let api_version = head::string(&document, "apiVersion").map_err(fail)?;
        let kind = head::string(&document, "kind").map_err(fail)?;
        let name = if is_list(&kind, &document) {
            String::new()
        } else {
            head::name(&kind, &document).map_err(fail)?
        };
        let namespace = head::namespace(&document).map_err(fail)?;
        let reference = ObjectRef::new(&kind, &namespace, &name);
        let labels = head::string_map(&document, "labels").map_err(fail)?;
        let annotations = head::string_map(&document, "annotations").map_err(fail)?;
        if conversion::age(&api_version).is_some_and(|age| age != Age::Current) {
            conversion::convert(&kind, &mut document);
        }
        let mut object = Self {
            api_version,
            kind,
            reference,
            labels,
            annotations,
            document: Document::from(&document),
            place,
            annotated: Vec::new(),
            annotation: None,
            order: Derived::default(),
            gateways: Derived::default(),
            references: Derived::default(),
        };
        object.annotated = annotation::read(&object);
        Ok(object)
    }

    /// What the order of loading goes by (A24, A26).
    pub(crate) fn order(&self) -> &str {
        self.order.0.get_or_init(|| {
            let order = match &self.annotation {
                Some(annotation) => format!("{}.{}", annotation.holder.qualified(), annotation.document),
                None => format!("{}.1", self.reference.qualified()),
            };
            order.into()
        })
    }

    /// What its `ambassador_id` says.
    pub(crate) fn gateways(&self) -> &Gateways {
        self.gateways.0.get_or_init(|| {
            if !self.document.mentions("\"ambassador") {
                return Gateways::Unsaid;
            }
            let document = self.document.value();
            let spec = document.get("spec");
            let field = |name| {
                let value = spec.and_then(|spec| spec.get(name));
                value.filter(|value| !value.is_null())
            };
            match field("ambassador_id").or_else(|| field("ambassadorId")) {
                None => Gateways::Unsaid,
                Some(Value::String(text)) => Gateways::Of([text.as_str().into()].into()),
                Some(Value::Array(texts)) => {
                    let texts = texts.iter().map(|text| text.as_str().map(Box::from));
                    texts
                        .collect::<Option<_>>()
                        .map_or(Gateways::Unreadable, Gateways::Of)
                }
                Some(_) => Gateways::Unreadable,
            }
        })
    }

    /// The Secrets and files that it names.
    pub(crate) fn references(&self) -> &References {
        self.references.0.get_or_init(|| References::of(self))
    }

    /// Its apiVersion as the user wrote it, which an annotation may say in another way.
    pub(crate) fn written_version(&self) -> &str {
        let annotation = self.annotation.as_ref();
        annotation.map_or(&self.api_version, |annotation| &annotation.version)
    }

    /// The object that its problems are about, and what their fields begin with: those of an object in an annotation
    /// are about the one that carries it.
    pub fn told_on(&self) -> (&ObjectRef, String) {
        match &self.annotation {
            Some(annotation) => (&annotation.holder, annotation.field("")),
            None => (&self.reference, String::new()),
        }
    }

    /// Whether it is of one of these kinds, or may hold objects that are.
    pub(crate) fn may_hold(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.kind.as_str()) || self.kind.ends_with("List") || !self.annotated.is_empty()
    }

    /// Whether this is a `List`, whose `items` are the objects that count.
    pub(crate) fn is_list(&self) -> bool {
        self.kind.ends_with("List") && is_list(&self.kind, &self.document.value())
    }
}

/// A list without items is one as well: Go writes `null` for it.
fn is_list(kind: &str, document: &Value) -> bool {
    let is_null = |items: &Value| items.is_null() && kind == "List";
    kind.ends_with("List")
        && document
            .get("items")
            .is_some_and(|items| items.is_array() || is_null(items))
}
