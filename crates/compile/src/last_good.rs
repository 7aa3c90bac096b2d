//! What worked before, so that a mistake made while the gateway runs breaks nothing (decision 1).

use std::sync::Arc;

use foldhash::HashMap;
use nuncio_model::ObjectRef;

use crate::context::{ContextTls, Contexts, ReadContexts};
use crate::endpoints::ReadServices;
use crate::mapping::reading::Readings;
use crate::secrets::Known;

/// TLS settings that worked in an earlier compile. They serve on while their TLSContext is broken
/// or gone (decision 1; rows D9, K7, K8).
#[derive(Clone, Default)]
pub struct LastGood {
    /// By TLSContext.
    pub(crate) contexts: HashMap<ObjectRef, Arc<ContextTls>>,
    /// What was read to get there.
    pub(crate) known: Known,
    pub(crate) services: ReadServices,
    /// What TLSContexts were read as, under the options and the Module of `readings`.
    pub(crate) read_contexts: Arc<ReadContexts>,
    /// What Mappings were read as, and which TLSContext each of them used.
    pub(crate) readings: Readings,
}

impl std::fmt::Debug for LastGood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LastGood({} contexts)", self.contexts.len())
    }
}

impl LastGood {
    /// What is worth keeping of this compile: every context that works or is kept alive, and those that
    /// are gone but still used. `used` are those that Mappings use now.
    pub(crate) fn next<'u>(
        &self,
        contexts: &Contexts<'_>,
        used: impl Iterator<Item = &'u ObjectRef>,
    ) -> Self {
        let mut good: HashMap<ObjectRef, Arc<ContextTls>> = contexts
            .good()
            .map(|(context, tls)| (context.clone(), Arc::clone(tls)))
            .collect();
        for context in used {
            if !good.contains_key(context)
                && let Some(tls) = self.contexts.get(context)
            {
                good.insert(context.clone(), Arc::clone(tls));
            }
        }
        Self {
            contexts: good,
            known: Known::default(),
            services: ReadServices::default(),
            read_contexts: Arc::clone(contexts.read()),
            readings: Readings::default(),
        }
    }
}
