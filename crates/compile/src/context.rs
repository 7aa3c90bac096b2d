//! TLSContexts as far as they matter to upstreams.
//!
//! A context is usable whole or not at all: one bad field, missing Secret or unsupported check makes
//! every Mapping that names it answer `tls_config_unresolved` (decision 1), unless an earlier version
//! of it worked in this process, which then serves on.

mod fields;
mod lookup;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_crds::TlsContextSpec;
use nuncio_model::{
    AlgorithmName, Alpn, ClientIdentity, CrlSet, ObjectRef, Origin, Pin, Problem, Severity, TlsVersion,
    TrustBundle, VerifyMode, VerifyName,
};

use crate::decode;
use crate::expiry::Shared;
use crate::module::Gateway;
use crate::object::Version;
use crate::problems::Problems;
use crate::secrets::{Materials, SecretName, Text};
use crate::{LastGood, Object};

use fields::{Flaw, Sources};

pub(crate) use lookup::Found;

/// A value and who set it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Sourced<T> {
    pub(crate) fn built_in(value: T) -> Self {
        Self {
            value,
            origin: Origin::BuiltIn,
        }
    }
}

/// What `sni` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerName {
    /// A-label, lower case, no trailing dot.
    Dns(Arc<str>),
    /// Never sent (RFC 6066), but it is the name to verify.
    Ip(IpAddr),
}

/// What `alpn_protocols` offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocols {
    /// Versions of HTTP.
    pub(crate) spoken: Arc<[Alpn]>,
    /// Other names, as they were written.
    pub(crate) foreign: Arc<[Box<str>]>,
}

impl Protocols {
    pub(crate) fn spoken<const N: usize>(spoken: [Alpn; N]) -> Self {
        Self {
            spoken: spoken.into(),
            foreign: [].into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.spoken.is_empty() && self.foreign.is_empty()
    }

    /// Whether one of them means HTTP/2.
    pub(crate) fn offer_http2(&self) -> bool {
        self.spoken.contains(&Alpn::H2) || self.foreign.iter().any(|name| &**name == Alpn::ISTIO_H2)
    }
}

/// TLS settings that do not depend on the Mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContextTls {
    /// The context; none where a Mapping names none.
    pub(crate) context: Option<ObjectRef>,
    pub(crate) sni: Option<Sourced<ServerName>>,
    /// Each request decides the server name; who said so. Never beside `sni`.
    pub(crate) auto_sni: Option<Origin>,
    pub(crate) client: Option<Sourced<Arc<ClientIdentity>>>,
    pub(crate) bundle: Option<Sourced<Arc<TrustBundle>>>,
    pub(crate) verify_mode: Sourced<VerifyMode>,
    pub(crate) verify_names: Option<Sourced<Arc<[VerifyName]>>>,
    /// The system's roots count; who said so.
    pub(crate) system_roots: Option<Origin>,
    pub(crate) crls: Option<Sourced<Arc<CrlSet>>>,
    pub(crate) pins: Option<Sourced<Arc<[Pin]>>>,
    pub(crate) min_version: Sourced<TlsVersion>,
    pub(crate) max_version: Sourced<TlsVersion>,
    pub(crate) cipher_suites: Sourced<Arc<[AlgorithmName]>>,
    pub(crate) groups: Sourced<Arc<[AlgorithmName]>>,
    pub(crate) alpn: Option<Sourced<Protocols>>,
    /// What was loaded for it, each Secret or file as the contexts that name it share it.
    pub(crate) certificates: Vec<Shared>,
}

impl ContextTls {
    /// Settings where no context is named, `https://` alone.
    pub(crate) fn plain(gateway: &Gateway) -> Self {
        let (value, origin) = gateway
            .verify_mode
            .clone()
            .unwrap_or((VerifyMode::Report, Origin::BuiltIn));
        Self {
            context: None,
            sni: None,
            auto_sni: None,
            client: None,
            bundle: None,
            system_roots: (value != VerifyMode::None).then_some(Origin::BuiltIn),
            verify_mode: Sourced { value, origin },
            verify_names: None,
            crls: None,
            pins: None,
            min_version: Sourced::built_in(TlsVersion::V1_2),
            max_version: Sourced::built_in(TlsVersion::V1_3),
            cipher_suites: Sourced::built_in(Arc::from([])),
            groups: Sourced::built_in(Arc::from([])),
            alpn: None,
            certificates: Vec::new(),
        }
    }
}

/// What became of a TLSContext.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It works.
    Usable(Arc<ContextTls>),
    /// It is broken, and its last good version serves on.
    Stale(Arc<ContextTls>),
    /// It is broken.
    Broken(Broken),
}

/// Why a context cannot be used.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    why: Arc<str>,
    /// A warning where it will pass without an edit.
    severity: Severity,
}

/// A context that was read without a word, for the next compile: most edits are about something else.
pub(crate) struct ReadContext {
    version: Version,
    /// The objects of the Secrets that it named.
    secrets: Vec<(SecretName, Version)>,
    texts: Vec<Text>,
    tls: Arc<ContextTls>,
    one_sided: Vec<OneSided>,
}

/// The contexts of one compile, for the next.
#[derive(Default)]
pub(crate) struct ReadContexts {
    /// Those that were read without a word.
    silent: HashMap<ObjectRef, Arc<ReadContext>>,
    /// How many there were, with those.
    all: usize,
}

impl ReadContext {
    /// None where something else than objects decides what it is.
    fn new(
        object: &Object,
        sources: Sources,
        tls: &Arc<ContextTls>,
        one_sided: Vec<OneSided>,
        materials: &Materials<'_>,
    ) -> Option<Self> {
        if sources.others || !materials.are_plain() {
            return None;
        }
        let secrets = sources.secrets.into_iter().map(|name| {
            let secret = materials.secret(&name).filter(|_| materials.is_silent(&name))?;
            let version = Version::of(secret);
            Some((name, version))
        });
        Some(Self {
            version: Version::of(object),
            secrets: secrets.collect::<Option<_>>()?,
            texts: sources.texts,
            tls: Arc::clone(tls),
            one_sided,
        })
    }

    /// Whether the context would be read the same, given that the options and the Module are the same.
    fn holds(&self, object: &Object, materials: &mut Materials<'_>) -> bool {
        let same = |(name, version): &(SecretName, Version)| {
            materials.secret(name).is_some_and(|secret| version.is_of(secret))
        };
        self.version.is_of(object)
            && materials.are_plain()
            && self.secrets.iter().all(same)
            && self.texts.iter().all(|text| materials.keep(*text))
    }
}

/// All TLSContexts.
pub(crate) struct Contexts<'a> {
    states: HashMap<ObjectRef, (&'a Object, State)>,
    read: Arc<ReadContexts>,
    /// Each was read without a word in the last compile, and there was no other.
    are_as_before: bool,
    /// Namespaces in which there is a context of a name.
    namespaces: HashMap<&'a str, Vec<&'a str>>,
    gateway_namespace: &'a str,
    last_good: &'a LastGood,
    /// Fields set on a context that mean nothing towards an upstream (decision 14).
    one_sided: HashMap<ObjectRef, Vec<OneSided>>,
    /// What is to be told of the certificate of a context that is used for an upstream.
    unfit: HashMap<ObjectRef, Vec<Problem>>,
    /// What is said of names that are nearly those of contexts, by namespace and name.
    nearest: RefCell<lookup::Nearest>,
}

/// Reads every context; `before` are those that were read under the same options and the same Module.
pub(crate) fn read<'a>(
    objects: &[&'a Object],
    gateway: &Gateway,
    gateway_namespace: &'a str,
    materials: &mut Materials<'_>,
    last_good: &'a LastGood,
    before: Option<&ReadContexts>,
    problems: &mut Problems,
) -> Contexts<'a> {
    let mut contexts = Contexts {
        states: HashMap::with_capacity(objects.len()),
        read: Arc::default(),
        are_as_before: before.is_some_and(|before| before.all == objects.len()),
        namespaces: HashMap::new(),
        gateway_namespace,
        last_good,
        one_sided: HashMap::new(),
        unfit: HashMap::new(),
        nearest: RefCell::default(),
    };
    let mut silent = HashMap::with_capacity(objects.len());
    for &object in objects {
        let known = before.and_then(|before| before.silent.get(&object.reference));
        if let Some(known) = known.filter(|known| known.holds(object, materials)) {
            contexts.keep(object, known);
            silent.insert(object.reference.clone(), Arc::clone(known));
            continue;
        }
        contexts.are_as_before = false;
        let problems_before = problems.count();
        let decoded = decode::spec::<TlsContextSpec>(object, problems);
        let one_sided = one_sided_fields(&decoded.spec);
        if !one_sided.is_empty() {
            contexts
                .one_sided
                .insert(object.reference.clone(), one_sided.clone());
        }
        let read = match decoded.any_broken() {
            Some(message) => Err(Flaw {
                message: message.to_owned(),
                severity: Severity::Error,
            }),
            None => fields::read(object, &decoded.spec, gateway, materials, problems),
        };
        let (mut sources, read) =
            read.map_or_else(|why| (None, Err(why)), |(sources, tls)| (Some(sources), Ok(tls)));
        let unfit = sources.as_mut().map(|sources| std::mem::take(&mut sources.unfit));
        if let Some(unfit) = unfit.filter(|unfit| !unfit.is_empty()) {
            contexts.unfit.insert(object.reference.clone(), unfit);
        }
        let state = contexts.state_of(object, read, problems);
        if let (Some(sources), State::Usable(tls)) = (sources, &state)
            && problems.count() == problems_before
            && let Some(read) = ReadContext::new(object, sources, tls, one_sided, materials)
        {
            silent.insert(object.reference.clone(), Arc::new(read));
        }
        contexts.add(object, state);
    }
    let all = objects.len();
    contexts.read = Arc::new(ReadContexts { silent, all });
    contexts
}

/// A field of termination that one who uses the context upstream may expect something of.
#[derive(Clone, Copy)]
struct OneSided {
    name: &'static str,
    /// What does not happen to clients, where the field asks for it and the context may be meant for them.
    undone: Option<&'static str>,
}

fn one_sided_fields(spec: &TlsContextSpec) -> Vec<OneSided> {
    let cert_required = spec.cert_required.map(|required| OneSided {
        name: "cert_required",
        undone: required
            .then_some("no client is asked for a certificate; ask for it in front of the gateway"),
    });
    let redirect = spec.redirect_cleartext_from.map(|_| OneSided {
        name: "redirect_cleartext_from",
        undone: Some("no request is redirected by it; set `requestPolicy.insecure.action` of the Host"),
    });
    cert_required.into_iter().chain(redirect).collect()
}

impl<'a> Contexts<'a> {
    fn add(&mut self, object: &'a Object, state: State) {
        let ObjectRef { name, namespace, .. } = &object.reference;
        self.namespaces.entry(name).or_default().push(namespace);
        self.states.insert(object.reference.clone(), (object, state));
    }

    /// Takes over what was read in the last compile.
    fn keep(&mut self, object: &'a Object, known: &Arc<ReadContext>) {
        if !known.one_sided.is_empty() {
            self.one_sided
                .insert(object.reference.clone(), known.one_sided.clone());
        }
        self.add(object, State::Usable(Arc::clone(&known.tls)));
    }

    /// Whether there is no other than in the last compile, and each is as it was.
    pub(crate) fn are_as_before(&self) -> bool {
        self.are_as_before
    }

    /// What was read, for the next compile.
    pub(crate) fn read(&self) -> &Arc<ReadContexts> {
        &self.read
    }

    fn state_of(&self, object: &Object, read: Result<ContextTls, Flaw>, problems: &mut Problems) -> State {
        match read {
            Ok(tls) => State::Usable(self.same_or_new(object, tls)),
            Err(why) => match self.last_good.contexts.get(&object.reference) {
                Some(tls) => {
                    let message = format!(
                        "{} is broken, so its last good version serves on; correct it, because a restart forgets that version",
                        object.reference
                    );
                    problems.error(object, "stale", "", message);
                    State::Stale(Arc::clone(tls))
                }
                None => State::Broken(Broken {
                    why: format!("{} cannot be used: {}", object.reference, why.message).into(),
                    severity: why.severity,
                }),
            },
        }
    }

    /// The value of the last compile where it is equal: what was made of it can go on being used then.
    fn same_or_new(&self, object: &Object, tls: ContextTls) -> Arc<ContextTls> {
        let before = self.last_good.contexts.get(&object.reference);
        match before.filter(|before| ***before == tls) {
            Some(before) => Arc::clone(before),
            None => Arc::new(tls),
        }
    }

    /// What a usable or stale context holds, for the next compile.
    pub(crate) fn good(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<ContextTls>)> {
        self.states
            .iter()
            .filter_map(|(reference, (_, state))| match state {
                State::Usable(tls) | State::Stale(tls) => Some((reference, tls)),
                State::Broken(_) => None,
            })
    }

    /// Reports once for each context which of its fields mean nothing towards upstreams, where it is used for those,
    /// and nothing yet towards clients, where it may be meant for them.
    pub(crate) fn report_one_sided<'u>(
        &self,
        used: impl Iterator<Item = &'u ObjectRef>,
        problems: &mut Problems,
    ) {
        let used: BTreeSet<_> = used.collect();
        let mut told = HashSet::new();
        for problem in used
            .iter()
            .filter_map(|reference| self.unfit.get(reference))
            .flatten()
        {
            if told.insert((&problem.object, &problem.message)) {
                problems.add(problem.clone());
            }
        }
        let references: BTreeSet<_> = self.one_sided.keys().collect();
        for reference in references {
            let (Some((object, _)), Some(fields)) =
                (self.states.get(reference), self.one_sided.get(reference))
            else {
                continue;
            };
            for OneSided { name, undone } in fields {
                let field = format!("spec.{name}");
                if used.contains(reference) {
                    let message = format!(
                        "`{field}` is about clients of the gateway and has no effect on the upstreams of Mappings that name this TLSContext"
                    );
                    problems.notice(object, "no_effect_upstream", &field, message);
                } else if let Some(undone) = undone {
                    let message = format!(
                        "`{field}` has no effect yet, because nuncio does not terminate TLS so far, so {undone}"
                    );
                    problems.warning(object, "not_supported_yet", &field, message);
                }
            }
        }
    }
}
