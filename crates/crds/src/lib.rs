//! The resource kinds that nuncio reads: their fields and names, and no behaviour.
//!
//! Each kind has a file of its own. A field that is part of `getambassador.io/v3alpha1` but that
//! nuncio does not act on yet is in the kind's [`Spec::LATER`], so that a user who sets it is told so
//! and only a truly unknown field counts as unknown. Moving a name from there to a typed field of the
//! struct is the first step of supporting it.

mod endpoint_slice;
mod endpoints;
mod host;
mod listener;
mod mapping;
mod module;
mod schema;
mod secret;
mod service;
mod tls_context;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use endpoint_slice::*;
pub use endpoints::*;
pub use host::*;
pub use listener::*;
pub use mapping::*;
pub use module::*;
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
}

/// One text, or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
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
