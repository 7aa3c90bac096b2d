//! Objects that are not read: unsupported kinds, unknown ones and unknown versions, with what follows and what to do.
//!
//! What would have guarded requests is a guard that none of them passes, also where a slip in its kind or version is
//! why it is not read.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nuncio_model::{Covers, Guard, Reason, Severity, Unresolved};

use crate::conversion;
use crate::decode;
use crate::guards;
use crate::object::Object;
use crate::problems::Problems;
use crate::tellable::tellable;

/// The group of Ambassador's kinds.
const GROUP: &str = "getambassador.io";

/// The group and version of Edge Stack's newer kinds.
const EDGE_STACK: &str = "gateway.getambassador.io/v1alpha1";

/// Groups of Kubernetes itself, which have none of Ambassador's kinds: an object of one there has a slip in its group.
const KUBERNETES: &[&str] = &[
    "apps",
    "batch",
    "extensions",
    "policy",
    "networking.k8s.io",
    "gateway.networking.k8s.io",
];

/// What the kinds of a group that is not ours are told by.
const NOT_READ: &str = "not_read";

/// What an object that is not read leaves behind.
#[derive(Debug)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// A guard that no request passes.
    Guard(Box<Guard>),
    /// It was meant as a Host, so that none may stand in for it.
    Host,
    /// It is of a kind that has nothing to do with a gateway.
    Foreign,
}

/// A kind of Ambassador.
struct Kind {
    name: &'static str,
    part: Part,
    /// What follows where an object of it is not read.
    follows: &'static str,
    /// What to do where nuncio does not support it.
    fix: &'static str,
}

/// What a kind does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is read.
    Read,
    /// It stands before all requests to upstreams.
    Guards,
    /// It stands before the requests that its rules name.
    GuardsByRules,
    /// Something else; how bad it is to do without.
    Else(Severity),
}

const fn read(name: &'static str, follows: &'static str) -> Kind {
    kind(name, Part::Read, follows, "")
}

const fn kind(name: &'static str, part: Part, follows: &'static str, fix: &'static str) -> Kind {
    Kind {
        name,
        part,
        follows,
        fix,
    }
}

const BY_RULES: &str = "requests that its rules send through a filter are answered 503";

const KINDS: &[Kind] = &[
    read("Mapping", "its requests have no route"),
    read("TLSContext", "Mappings that name it are answered 503"),
    read("Host", "it is not served, and no other stands in for it"),
    read("Listener", "its port is not opened"),
    read("Module", "its settings have no effect"),
    read(
        "KubernetesServiceResolver",
        "Mappings that name it are answered 503",
    ),
    read(
        "KubernetesEndpointResolver",
        "Mappings that name it are answered 503",
    ),
    read("ConsulResolver", "Mappings that name it are answered 503"),
    kind(
        "AuthService",
        Part::Guards,
        "requests of every Mapping without `bypass_auth: true` are answered 503",
        "let the services authenticate their requests, and remove it",
    ),
    kind(
        "FilterPolicy",
        Part::GuardsByRules,
        BY_RULES,
        "let the services do what the filters did, and remove it",
    ),
    kind(
        "EnvoyFilterPolicy",
        Part::GuardsByRules,
        BY_RULES,
        "let the services do what the filters did, and remove it",
    ),
    kind(
        "WebApplicationFirewallPolicy",
        Part::GuardsByRules,
        "requests that its rules send through a firewall are answered 503",
        "put a firewall in front of the gateway, and remove it",
    ),
    kind(
        "Filter",
        Part::Else(Severity::Warning),
        "requests that a FilterPolicy sends through it are answered 503",
        "let the services do what it did, and remove it with its FilterPolicy",
    ),
    kind(
        "EnvoyFilter",
        Part::Else(Severity::Warning),
        "requests that an EnvoyFilterPolicy sends through it are answered 503",
        "let the services do what it did, and remove it with its EnvoyFilterPolicy",
    ),
    kind(
        "WebApplicationFirewall",
        Part::Else(Severity::Warning),
        "requests that a WebApplicationFirewallPolicy sends through it are answered 503",
        "put a firewall in front of the gateway, and remove it with its WebApplicationFirewallPolicy",
    ),
    kind(
        "RateLimitService",
        Part::Else(Severity::Error),
        "no request is refused for being one too many",
        "limit requests elsewhere, and remove it",
    ),
    kind(
        "RateLimit",
        Part::Else(Severity::Error),
        "no request is refused for being one too many",
        "limit requests elsewhere, and remove it",
    ),
    kind(
        "TCPMapping",
        Part::Else(Severity::Warning),
        "its port is not opened",
        "keep what serves it now, or reach the service in another way",
    ),
    kind(
        "LogService",
        Part::Else(Severity::Warning),
        "no access log is sent to it",
        "collect the access log from standard output, and remove it",
    ),
    kind(
        "TracingService",
        Part::Else(Severity::Warning),
        "no trace is sent to it",
        "remove it if you can do without",
    ),
    kind(
        "DevPortal",
        Part::Else(Severity::Notice),
        "there is no catalogue of services",
        "remove it if you can do without",
    ),
];

impl Kind {
    fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// A kind that goes by another name in this version.
    fn renamed(name: &str) -> Option<&'static Self> {
        Self::named(name.strip_prefix("Ambassador")?)
    }

    fn nearest(name: &str) -> Option<&'static Self> {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        decode::nearest(name, &names).and_then(Self::named)
    }

    fn is_of_edge_stack(&self) -> bool {
        matches!(self.part, Part::GuardsByRules)
            || ["Filter", "EnvoyFilter", "WebApplicationFirewall"].contains(&self.name)
    }
}

/// Reports an object that is not read, and says what it leaves behind. `ingress_classes` are those of Ambassador.
pub(crate) fn report(object: &Object, ingress_classes: &[&str], problems: &mut Problems) -> Left {
    if is_ambassadors(object) {
        return report_ours(object, problems);
    }
    if let Some((kind, version)) = of_kubernetes(object) {
        let message = format!(
            "nuncio knows no {} of `{}`, so the object is not read; write `kind: {kind}` of `apiVersion: {version}`",
            object.kind, object.api_version
        );
        problems.warning(object, "unknown_version", "apiVersion", message);
    } else if object.kind == "Ingress" {
        return report_ingress(object, ingress_classes, problems);
    } else {
        return Left::Foreign;
    }
    Left::Nothing
}

/// Reports the objects of kinds that are none of nuncio's business. Nobody can act on that, so many are one line.
pub(crate) fn report_foreign(objects: &[&Object], problems: &mut Problems) {
    /// Kinds that are named.
    const NAMED: usize = 6;
    if let [only] = objects {
        return problems.notice(only, NOT_READ, "", not_read(only));
    }
    let mut counts = BTreeMap::<&str, usize>::new();
    for object in objects {
        *counts.entry(&object.kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let named = counts
        .iter()
        .take(NAMED)
        .map(|(kind, count)| format!("{count} {}", tellable(kind)));
    let mut list: Vec<String> = named.collect();
    if let Some(more) = counts.len().checked_sub(NAMED).filter(|more| *more > 0) {
        list.push(format!("{more} more kinds"));
    }
    if !objects.is_empty() {
        let message = format!(
            "{} objects are of kinds that nuncio does not read: {}",
            objects.len(),
            list.join(", ")
        );
        problems.general(Severity::Notice, NOT_READ, message);
    }
}

/// What an object of Kubernetes' own groups was meant to be, where nuncio would read that.
fn of_kubernetes(object: &Object) -> Option<(&'static str, &'static str)> {
    const READ: [(&str, &str); 4] = [
        ("Secret", "v1"),
        ("Service", "v1"),
        ("Endpoints", "v1"),
        ("EndpointSlice", "discovery.k8s.io/v1"),
    ];
    let (group, _) = object.api_version.split_once('/').unwrap_or_default();
    if !matches!(group, "" | "discovery.k8s.io") {
        return None;
    }
    let meant = |kind: &str| {
        let (written, kind) = (object.kind.to_lowercase(), kind.to_lowercase());
        written == kind || written == format!("{kind}s") || format!("{written}s") == kind
    };
    READ.into_iter().find(|(kind, _)| meant(kind))
}

/// Whether an object is one of Ambassador's kinds, perhaps with a slip in its group.
pub(crate) fn is_ambassadors(object: &Object) -> bool {
    let version = &object.api_version;
    let Some((group, _)) = version.split_once('/') else {
        // Kubernetes' own group has none of these.
        return Kind::named(&object.kind).is_some();
    };
    if KUBERNETES.contains(&group) {
        return Kind::named(&object.kind).is_some();
    }
    let is_near = strsim::damerau_levenshtein(group, GROUP) <= 3;
    is_near || group == "ambassador" || group.ends_with(".getambassador.io")
}

fn report_ours(object: &Object, problems: &mut Problems) -> Left {
    let (name, version) = (&object.kind, &object.api_version);
    let is_current = conversion::age(version).is_some();
    match Kind::named(name) {
        Some(kind) if is_current && kind.name == "Module" => report_module(object, problems),
        Some(kind) if is_current || (version == EDGE_STACK && kind.is_of_edge_stack()) => {
            unsupported(object, kind, problems)
        }
        Some(kind) => {
            let current = if kind.is_of_edge_stack() && version.starts_with("gateway.") {
                EDGE_STACK
            } else {
                "getambassador.io/v3alpha1"
            };
            let message = format!(
                "nuncio knows no {name} of `{version}`, so the object is not read and {}; write `apiVersion: {current}`",
                kind.follows
            );
            lost(object, kind, "unknown_version", "apiVersion", &message, problems)
        }
        None => match Kind::renamed(name).or_else(|| Kind::nearest(name)) {
            Some(kind) if !is_current => {
                let message = format!(
                    "nuncio knows no {name} of `{version}`, so the object is not read and {}; write `kind: {}` of \
                     `apiVersion: getambassador.io/v3alpha1`",
                    kind.follows, kind.name
                );
                lost(object, kind, "unknown_version", "apiVersion", &message, problems)
            }
            Some(kind) => {
                let message = format!(
                    "{version} has no kind `{name}`, so the object is not read and {}; did you mean `{}`?",
                    kind.follows, kind.name
                );
                lost(object, kind, "unknown_kind", "kind", &message, problems)
            }
            None => {
                let version = object.written_version();
                let message = format!(
                    "{name} of {version} is no kind that nuncio knows, so the object is not read; see to it elsewhere, or remove it"
                );
                problems.warning(object, NOT_READ, "", message);
                Left::Nothing
            }
        },
    }
}

/// What nuncio knows and does not do.
fn unsupported(object: &Object, kind: &Kind, problems: &mut Problems) -> Left {
    let Kind { follows, fix, .. } = kind;
    let message = format!("{} is not supported yet, so {follows}; {fix}", object.reference);
    match kind.part {
        Part::Else(severity) => {
            problems.report(severity, object, NOT_READ, "", message);
            Left::Nothing
        }
        _ => lost(
            object,
            kind,
            Reason::FilterUnresolved.code(),
            "",
            &message,
            problems,
        ),
    }
}

/// Reports an error, and puts what was lost in its place.
fn lost(
    object: &Object,
    kind: &Kind,
    reason: &'static str,
    field: &str,
    message: &str,
    problems: &mut Problems,
) -> Left {
    let covers = match kind.part {
        Part::Guards => Some(Covers::Forwarded),
        Part::GuardsByRules => {
            let rules = guards::rules(object);
            if !rules.iter().any(|rule| rule.guards) {
                let message = format!(
                    "{} has no rule with a filter, so it guards nothing; remove it",
                    object.reference
                );
                problems.notice(object, NOT_READ, "", message);
                return Left::Nothing;
            }
            Some(Covers::Rules(rules))
        }
        Part::Read | Part::Else(_) => None,
    };
    problems.error(object, reason, field, message);
    match covers {
        Some(covers) => Left::Guard(Box::new(guard(object, covers, message))),
        None if kind.name == "Host" => Left::Host,
        None => Left::Nothing,
    }
}

/// A guard that no request passes.
pub(crate) fn guard(object: &Object, covers: Covers, message: &str) -> Guard {
    Guard {
        object: object.reference.clone(),
        covers,
        unresolved: Unresolved {
            reason: Reason::FilterUnresolved,
            message: message.into(),
        },
    }
}

/// A Module that is not named `ambassador`.
fn report_module(object: &Object, problems: &mut Problems) -> Left {
    let name = &*object.reference.name;
    let not_read = format!("Module `{name}` is not read by nuncio");
    match name {
        "tls" => {
            let message = format!(
                "{not_read}, so Mappings that name one of its blocks are answered 503, and none of its certificates is used; write a TLSContext for each block"
            );
            problems.warning(object, NOT_READ, "", message);
        }
        "authentication" => {
            let message = format!(
                "{not_read}, so requests of every Mapping without `bypass_auth: true` are answered 503; let the services authenticate their requests, and remove it"
            );
            problems.error(object, Reason::FilterUnresolved.code(), "", &*message);
            return Left::Guard(Box::new(guard(object, Covers::Forwarded, &message)));
        }
        _ if decode::nearest(name, &["ambassador"]).is_some() => {
            let limits_addresses = guards::ADDRESS_LISTS
                .iter()
                .any(|list| object.document.mentions(&format!("\"{list}\"")));
            let follows = if limits_addresses {
                " and every request is answered 503, because it says which addresses may pass"
            } else {
                ""
            };
            let message =
                format!("{not_read}, so its settings have no effect{follows}; did you mean `ambassador`?");
            problems.error(object, "unknown_module", "metadata.name", &*message);
            if limits_addresses {
                return Left::Guard(Box::new(guard(object, Covers::Every, &message)));
            }
        }
        _ => {
            let message = format!("{not_read}; only the one named `ambassador` is");
            problems.notice(object, NOT_READ, "", message);
        }
    }
    Left::Nothing
}

/// An Ingress is a matter of ours only where it says so.
fn report_ingress(object: &Object, ingress_classes: &[&str], problems: &mut Problems) -> Left {
    let document = object.document.value();
    let class = document
        .pointer("/spec/ingressClassName")
        .and_then(serde_json::Value::as_str);
    let annotated = object
        .annotations
        .get("kubernetes.io/ingress.class")
        .map(String::as_str);
    let is_ours =
        annotated == Some("ambassador") || class.is_some_and(|class| ingress_classes.contains(&class));
    let message = not_read(object);
    if is_ours {
        let message = format!(
            "{message}, so its rules have no routes and their requests are answered 404; write a Host and Mappings for them"
        );
        problems.warning(object, NOT_READ, "", message);
        Left::Nothing
    } else {
        Left::Foreign
    }
}

fn not_read(object: &Object) -> String {
    format!(
        "{} of {} is not read by nuncio",
        object.kind,
        object.written_version()
    )
}

/// The IngressClasses whose Ingresses are Ambassador's.
pub(crate) fn ingress_classes<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Vec<&'a str> {
    let is_ours = |object: &&Object| {
        object.kind == "IngressClass"
            && object
                .document
                .mentions("\"getambassador.io/ingress-controller\"")
    };
    let named = objects
        .into_iter()
        .filter(is_ours)
        .map(|object| &*object.reference.name);
    named.chain(["ambassador"]).collect()
}

/// The gateway that an Ingress is for (A20).
pub(crate) fn is_ingress_of_another(object: &Object, id: &str) -> bool {
    let own = object.annotations.get("getambassador.io/ambassador-id");
    object.kind == "Ingress" && own.map_or("default", String::as_str) != id
}
