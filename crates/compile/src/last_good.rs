//! What worked before, so that a mistake made while the gateway runs breaks nothing (decision 1).

use std::collections::HashMap;
use std::sync::Arc;

use nuncio_model::ObjectRef;

use crate::context::{ContextTls, Contexts};
use crate::endpoints::ReadServices;
use crate::mapping::reading::Readings;
use crate::secrets::Known;

/// TLS settings that worked in an earlier compile. They serve on while their TLSContext is broken
/// or gone (decision 1; rows D9, K7, K8).
#[derive(Clone, Default)]
pub struct LastGood {
    /// By TLSContext.
    pub(crate) contexts: HashMap<ObjectRef, Arc<ContextTls>>,
    /// The TLSContext that each Mapping used.
    pub(crate) mappings: HashMap<ObjectRef, ObjectRef>,
    /// What was read to get there.
    pub(crate) known: Known,
    pub(crate) services: ReadServices,
    /// What Mappings were read as.
    pub(crate) readings: Readings,
}

impl std::fmt::Debug for LastGood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LastGood({} contexts)", self.contexts.len())
    }
}

impl LastGood {
    /// What is worth keeping of this compile: every context that works or is kept alive, and those that
    /// are gone but still used. `mappings` says which Mapping uses which context now.
    pub(crate) fn next(&self, contexts: &Contexts<'_>, mappings: HashMap<ObjectRef, ObjectRef>) -> Self {
        let mut good: HashMap<ObjectRef, Arc<ContextTls>> = contexts
            .good()
            .map(|(context, tls)| (context.clone(), Arc::clone(tls)))
            .collect();
        for context in mappings.values() {
            if let Some(tls) = self.contexts.get(context) {
                good.entry(context.clone()).or_insert_with(|| Arc::clone(tls));
            }
        }
        Self {
            contexts: good,
            mappings,
            known: Known::default(),
            services: ReadServices::default(),
            readings: Readings::default(),
        }
    }
}
