//! Names of the Kubernetes objects that settings come from.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Kind, namespace and name: how a user finds the object again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    /// `Mapping`, `TLSContext`, `Secret`, ...
    pub kind: Arc<str>,
    /// Namespace, never empty (`default` where the manifest gives none).
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// A reference from its three parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// `name.namespace`, as labels and `nuncio probe` write it.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}", self.kind, self.name, self.namespace)
    }
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the value of a setting came from; `explain` and `/api/v1/upstreams` show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A field of an object, such as `spec.min_tls_version` of a TLSContext.
    Field {
        /// The object.
        object: ObjectRef,
        /// Dotted path of the field.
        field: Arc<str>,
    },
    /// A default in the `ambassador` Module; the dotted path of the field.
    Module(Arc<str>),
    /// The environment; the variable's name.
    Environment(Arc<str>),
    /// A command-line flag.
    Flag(Arc<str>),
    /// What nuncio does when nobody says otherwise.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { object, field } => write!(f, "{object}, {field}"),
            Self::Module(field) => write!(f, "Module ambassador, {field}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::BuiltIn => f.write_str("built-in default"),
        }
    }
}
