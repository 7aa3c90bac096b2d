//! `Secret` of Kubernetes' core API.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// A Secret. Its `Debug` form never shows a value.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secret {
    /// `Opaque`, `kubernetes.io/tls`, ...; `Opaque` where absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Values in base64. Kubernetes stores a null one as an empty value.
    pub data: Option<BTreeMap<String, Option<String>>>,
    /// Values as they are; they win over `data`. A null one is an empty value here too.
    pub string_data: Option<BTreeMap<String, Option<String>>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |map: &Option<BTreeMap<String, Option<String>>>| -> Vec<String> {
            map.iter().flat_map(BTreeMap::keys).cloned().collect()
        };
        f.debug_struct("Secret")
            .field("kind", &self.kind)
            .field("data", &keys(&self.data))
            .field("string_data", &keys(&self.string_data))
            .finish()
    }
}
