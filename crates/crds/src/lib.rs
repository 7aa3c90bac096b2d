//! The resource kinds that nuncio reads: their fields and names, and no behaviour.
//!
//! Each kind has a file of its own. A field that is part of `getambassador.io/v3alpha1` but that
//! nuncio does not act on yet is in the kind's [`Spec::LATER`], so that a user who sets it is told so
//! and only a truly unknown field counts as unknown. Moving a name from there to a typed field of the
//! struct is the first step of supporting it.

mod definition;
mod endpoint_slice;
mod endpoints;
mod host;
mod listener;
mod mapping;
mod module;
mod resolver;
mod schema;
mod secret;
mod service;
mod structural;
mod tls_context;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use definition::*;
pub use endpoint_slice::*;
pub use endpoints::*;
pub use host::*;
pub use listener::*;
pub use mapping::*;
pub use module::*;
pub use resolver::*;
pub use schema::*;
pub use secret::*;
pub use service::*;
pub use tls_context::*;

/// API group of Ambassador's own kinds.
pub const GROUP: &str = "getambassador.io";

/// The version of [`GROUP`] that is read.
pub const VERSION: &str = "v3alpha1";

/// The `spec` of a kind in [`GROUP`].
pub trait Spec: DeserializeOwned + JsonSchema {
    /// `kind` of its objects.
    const KIND: &'static str;
    /// Name of its collection in the API.
    const PLURAL: &'static str;
    /// Dotted paths, from `spec`, of fields of [`VERSION`] that have no effect yet.
    const LATER: &'static [&'static str];
    /// Fields that protect something: an unknown field that may be one of them counts as that one, unreadable.
    const PROTECTS: &'static [Protection] = &[];
    /// Fields of `spec` that mean nothing to a gateway: the reference notes there how to get a document of v2 back.
    const NOTES: &'static [&'static str] = &[];
    /// Fields of `spec` that the API server asks for.
    const REQUIRED: &'static [&'static str] = &[];
    /// Values that the API server lets through, by dotted path from `spec`; those of the reference's own definition,
    /// so that nothing is refused which was accepted there.
    const VALUES: &'static [(&'static str, Values)] = &[];
    /// What the API server checks besides, field with field.
    const RULES: &'static [Rule] = &[];
    /// Columns that `kubectl get` shows.
    const COLUMNS: &'static [Column] = &[];
    /// Values, as JSON, by which a field of [`Spec::LATER`] or one in it asks for nothing, by dotted path from `spec`.
    const IDLE: &'static [(&'static str, &'static str)] = &[];
    /// Fields that hold an object, by dotted path from `spec`: a list of its values is no way to write one.
    const OBJECTS: &'static [&'static str] = &[];
    /// Fields in which only names can stand, of hosts, of objects or of a closed set. A template's placeholder there was
    /// left behind; elsewhere it may be meant.
    const NAMES: &'static [&'static str] = &[];
    /// What to do about a field whose value has the wrong type, by dotted path from `spec`.
    const FORMS: &'static [(&'static str, &'static str)] = &[];
    /// What users write for fields, by dotted path from `spec`, and what to do about it.
    const MISNOMERS: &'static [(&'static str, &'static str)] = &[];
}

/// A field whose loss would leave something unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Dotted path from `spec`.
    pub path: &'static str,
    /// What follows where it cannot be read.
    pub follows: &'static str,
    /// Words in the name of an unknown field that tell that this one was meant, however it is called.
    pub words: &'static [&'static str],
    /// What to do about a field that has one of these words.
    pub fix: &'static str,
}

impl Protection {
    /// One that only a similar name is taken for.
    pub const fn by_name(path: &'static str, follows: &'static str) -> Self {
        Self::by_words(path, follows, &[], "")
    }

    /// One that is also told by words.
    pub const fn by_words(
        path: &'static str,
        follows: &'static str,
        words: &'static [&'static str],
        fix: &'static str,
    ) -> Self {
        Self {
            path,
            follows,
            words,
            fix,
        }
    }

    /// The field's own name.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A number from the first to the second.
    Between(i64, i64),
    /// An object with whatever fields.
    AnyObject,
    /// An object whose fields are known by name, and whatever stands in them.
    KnownNames,
}

/// A rule across the fields of `spec`, in the Common Expression Language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// True where all is well; `self` is the `spec`.
    pub holds: &'static str,
    /// What is said where it does not hold.
    pub message: &'static str,
}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its title.
    pub name: &'static str,
    /// `string`, `date` or `integer`
    pub kind: &'static str,
    /// Where in the object its value is.
    pub path: &'static str,
}

impl Column {
    /// A column of texts.
    pub const fn text(name: &'static str, path: &'static str) -> Self {
        let kind = "string";
        Self { name, kind, path }
    }

    /// How long the object has existed.
    pub const AGE: Self = Self {
        name: "Age",
        kind: "date",
        path: ".metadata.creationTimestamp",
    };
}

/// One text, or a list of texts. To the API server it is a list, as in the reference's definitions, which can have
/// one type in one place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(with = "Vec<String>")]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum OneOrMany {
    /// `a`
    One(String),
    /// `[a, b]`
    Many(Vec<String>),
}

impl OneOrMany {
    /// All texts.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// One number, or a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a whole number or a list of whole numbers")]
pub enum NumberOrList {
    /// `7`
    One(i64),
    /// `[30, 7]`
    Many(Vec<i64>),
}

impl NumberOrList {
    /// All numbers.
    pub fn as_slice(&self) -> &[i64] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }
}

/// A selector of objects by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels and the values they must have.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Conditions of Kubernetes' richer kind; Ambassador knows none of them.
    pub match_expressions: Option<Vec<serde_json::Value>>,
}
