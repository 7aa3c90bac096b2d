//! What is wrong with what a user wrote.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::ObjectRef;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Notice,
    /// Served, but probably not what was meant.
    Warning,
    /// The object, or what refers to it, does not work.
    Error,
}

impl Severity {
    /// The word used in output and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding about one object. Serialises to the `problem` shape of the public interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Stable `snake_case` code for machines.
    pub reason: Cow<'static, str>,
    /// One sentence, lower case, that says what is wrong and how to mend it.
    pub message: String,
    /// The object at fault; absent when a file could not be read as objects at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// Dotted path of the field, such as `spec.min_tls_version` or `spec.hosts[2]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where that is; in file mode only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A place in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1. Compile gives the line its document starts on; the loader narrows it to the field.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}
