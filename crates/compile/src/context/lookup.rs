//! Which TLSContext a Mapping's `tls` means (decision 7).

use std::sync::Arc;

use foldhash::HashMap;
use nuncio_model::ObjectRef;

use super::{Broken, ContextTls, Contexts, State};
use crate::Object;
use crate::decode::nearest;
use crate::problems::Problems;

/// What `tls` led to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The settings, or the sentence that says why there are none.
    pub(crate) tls: Result<Arc<ContextTls>, Arc<str>>,
    /// They are those of an earlier version.
    pub(crate) stale: bool,
}

impl Found {
    /// Whether both led to the very same value.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = match (&self.tls, &other.tls) {
            (Ok(a), Ok(b)) => Arc::ptr_eq(a, b),
            (Err(a), Err(b)) => a == b,
            _ => false,
        };
        same && self.stale == other.stale
    }
}

/// What is said of a name that no context has, by namespace and name; nothing where none is near.
pub(super) type Nearest = HashMap<(Box<str>, Box<str>), Option<Arc<str>>>;

/// The only context that a name can mean, or why there is none.
enum Choice {
    This(ObjectRef),
    Missing,
    Several(Vec<String>),
}

impl Contexts<'_> {
    /// Looks up the `tls` of a Mapping: its own namespace, the gateway's, `name.namespace`, then a
    /// unique match elsewhere. Problems are reported on the Mapping.
    pub(crate) fn look_up(&self, mapping: &Object, text: &str, problems: &mut Problems) -> Found {
        let message: Arc<str> = match self.choose(text, &mapping.reference.namespace) {
            Choice::This(context) => return self.found(mapping, text, &context, problems),
            Choice::Missing if matches!(text, "true" | "false") => format!(
                "`spec.tls` names TLSContext `{text}`, which does not exist; to encrypt, write `https://` before the host in `spec.service` or name a TLSContext here, else remove it"
            )
            .into(),
            Choice::Missing => format!(
                "`spec.tls` names TLSContext `{text}`, which does not exist; create it or correct the name"
            )
            .into(),
            Choice::Several(all) => format!(
                "`spec.tls` is `{text}`, which could be any of the TLSContexts {}; write name.namespace",
                all.join(", ")
            )
            .into(),
        };
        match self.last_used(mapping, text) {
            Some(tls) => {
                let (what, fix) = message.rsplit_once("; ").unwrap_or((&message, "correct it"));
                let message = format!("{what}, so what it meant before serves on, up to a restart; {fix}");
                problems.error(mapping, "stale", "spec.tls", message);
                Found {
                    tls: Ok(tls),
                    stale: true,
                }
            }
            None => {
                let message = self
                    .did_you_mean(text, &mapping.reference.namespace)
                    .unwrap_or(message);
                problems.error(mapping, "tls_config_unresolved", "spec.tls", &*message);
                Found {
                    tls: Err(message),
                    stale: false,
                }
            }
        }
    }

    fn choose(&self, text: &str, namespace: &str) -> Choice {
        let empty = Vec::new();
        let named = self.namespaces.get(text).unwrap_or(&empty);
        let here = |namespace: &str| named.contains(&namespace).then(|| context_ref(namespace, text));
        let explicit = || {
            let (name, namespace) = text.rsplit_once('.')?;
            self.namespaces
                .get(name)?
                .contains(&namespace)
                .then(|| context_ref(namespace, name))
        };
        match here(namespace)
            .or_else(|| here(self.gateway_namespace))
            .or_else(explicit)
        {
            Some(context) => Choice::This(context),
            None => match named.as_slice() {
                [] => Choice::Missing,
                [only] => Choice::This(context_ref(only, text)),
                several => Choice::Several(
                    several
                        .iter()
                        .map(|namespace| format!("{text}.{namespace}"))
                        .collect(),
                ),
            },
        }
    }

    /// The sentence about a name that nothing has, where it is nearly that of a context of this namespace. Many Mappings
    /// may share the name, so it is looked for once.
    fn did_you_mean(&self, text: &str, namespace: &str) -> Option<Arc<str>> {
        /// Where there are more contexts, to compare the name with each would cost more than it helps.
        const MOST: usize = 100;
        if self.namespaces.contains_key(text) {
            return None;
        }
        let mut known = self.nearest.borrow_mut();
        let sentence = known.entry((namespace.into(), text.into())).or_insert_with(|| {
            let here = self
                .states
                .keys()
                .filter(|context| *context.namespace == *namespace);
            let mut names: Vec<&str> = here.map(|context| &*context.name).take(MOST + 1).collect();
            names.sort_unstable();
            let near = nearest(text, &names).filter(|_| names.len() <= MOST)?;
            let sentence =
                format!("`spec.tls` names TLSContext `{text}`, which does not exist; did you mean `{near}`?");
            Some(sentence.into())
        });
        sentence.clone()
    }

    fn found(&self, mapping: &Object, text: &str, context: &ObjectRef, problems: &mut Problems) -> Found {
        let elsewhere =
            context.namespace != mapping.reference.namespace && *context.namespace != *self.gateway_namespace;
        if elsewhere && *context.name == *text {
            let message = format!(
                "`spec.tls` is `{text}`, which only namespace `{}` has; write {} to be sure",
                context.namespace,
                context.qualified()
            );
            problems.notice(mapping, "context_elsewhere", "spec.tls", message);
        }
        match self.states.get(context).map(|(_, state)| state) {
            Some(State::Usable(tls)) => Found {
                tls: Ok(Arc::clone(tls)),
                stale: false,
            },
            Some(State::Stale(tls)) => Found {
                tls: Ok(Arc::clone(tls)),
                stale: true,
            },
            Some(State::Broken(Broken { why, severity })) => {
                let (reason, field) = ("tls_config_unresolved", "spec.tls");
                problems.report(*severity, mapping, reason, field, &**why);
                Found {
                    tls: Err(Arc::clone(why)),
                    stale: false,
                }
            }
            // `choose` only gives contexts that are there.
            None => Found {
                tls: Err(format!("{context} does not exist").into()),
                stale: false,
            },
        }
    }

    /// The settings that this Mapping had from a context of this name in the last compile.
    fn last_used(&self, mapping: &Object, text: &str) -> Option<Arc<ContextTls>> {
        let context = self.last_good.readings.context_of(mapping)?;
        if *context.name != *text && context.qualified() != text {
            return None;
        }
        match self.states.get(context) {
            Some((_, State::Usable(tls) | State::Stale(tls))) => Some(Arc::clone(tls)),
            Some((_, State::Broken(_))) => None,
            None => self.last_good.contexts.get(context).cloned(),
        }
    }
}

fn context_ref(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new("TLSContext", namespace, name)
}
