//! `/api/v1/routes`: every route in match order, in the words of a Mapping's fields.

use std::collections::BTreeMap;

use nuncio_model::{
    Action, AuthorityMatch, HIDDEN, InsecureAction, Listener, MethodMatch, ObjectRef, PathMatch, Pattern,
    Reason, Route, RouteMatch, Snapshot, Target, ValueMatch, VirtualHost, may_be_credential,
};
use serde::{Serialize, Serializer};

/// Listener by listener, host by host, each in match order. Written as they are made: where many hosts
/// share many routes they are a multiple of either.
#[derive(Serialize)]
pub(crate) struct Routes<'a> {
    #[serde(serialize_with = "in_order")]
    routes: &'a Snapshot,
}

impl<'a> Routes<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        Self { routes: snapshot }
    }
}

fn in_order<S: Serializer>(snapshot: &&Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(placed(snapshot))
}

/// A route at one of the places where it is served.
#[derive(Debug, Serialize)]
pub(crate) struct PlacedRoute<'a> {
    listener: &'a str,
    port: u16,
    /// Hostname of the virtual host.
    pub(crate) host: &'a str,
    /// What an insecure request gets.
    insecure: &'static str,
    #[serde(flatten)]
    pub(crate) route: RouteView<'a>,
}

pub(crate) fn placed(snapshot: &Snapshot) -> impl Iterator<Item = PlacedRoute<'_>> {
    let listeners = snapshot.listeners.iter();
    let hosts =
        listeners.flat_map(|listener| listener.hosts.hosts().iter().map(move |host| (listener, host)));
    hosts.flat_map(move |(listener, host)| {
        host.routes
            .routes()
            .iter()
            .map(move |route| PlacedRoute::of(snapshot, listener, host, route))
    })
}

impl<'a> PlacedRoute<'a> {
    fn of(snapshot: &'a Snapshot, listener: &'a Listener, host: &'a VirtualHost, route: &'a Route) -> Self {
        let insecure = match host.insecure {
            InsecureAction::Redirect => "redirect",
            InsecureAction::Route => "route",
            InsecureAction::Reject => "reject",
        };
        Self {
            listener: &listener.name,
            port: listener.port,
            host: &host.hostname,
            insecure,
            route: RouteView::of(snapshot, route),
        }
    }
}

/// Conditions and targets of a route.
#[derive(Debug, Serialize)]
pub(crate) struct RouteView<'a> {
    #[serde(flatten)]
    conditions: Conditions<'a>,
    /// Who shares the traffic.
    pub(crate) mappings: Vec<Share<'a>>,
    /// Where it goes; empty where nothing is resolved.
    upstreams: Vec<&'a str>,
}

impl<'a> RouteView<'a> {
    fn of(snapshot: &'a Snapshot, route: &'a Route) -> Self {
        let mappings = shares(snapshot, &route.targets);
        let mut upstreams: Vec<&str> = Vec::new();
        for upstream in mappings.iter().filter_map(|share| share.upstream) {
            if !upstreams.contains(&upstream) {
                upstreams.push(upstream);
            }
        }
        Self {
            conditions: Conditions::of(&route.matches),
            mappings,
            upstreams,
        }
    }
}

/// A Mapping's part in a route.
#[derive(Debug, Serialize)]
pub(crate) struct Share<'a> {
    /// Which Mapping.
    #[serde(flatten)]
    pub(crate) mapping: &'a ObjectRef,
    /// Percent of the traffic.
    share: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unresolved: Option<UnresolvedView<'a>>,
}

#[derive(Debug, Serialize)]
struct UnresolvedView<'a> {
    reason: Reason,
    message: &'a str,
}

fn shares<'a>(snapshot: &'a Snapshot, targets: &'a [Target]) -> Vec<Share<'a>> {
    let mut taken = 0;
    let share = |target: &'a Target| {
        let end = target.share_end.min(100);
        let share = end.saturating_sub(taken);
        taken = taken.max(end);
        let (upstream, unresolved) = match &target.action {
            Action::Forward(forward) => (Some(&*snapshot.upstream(forward.upstream).name), None),
            Action::Unresolved(why) => (
                None,
                Some(UnresolvedView {
                    reason: why.reason,
                    message: &why.message,
                }),
            ),
        };
        Share {
            mapping: &target.mapping,
            share,
            upstream,
            unresolved,
        }
    };
    targets.iter().map(share).collect()
}

/// Named as in a Mapping; a condition that is not set is left out.
#[derive(Debug, Serialize)]
struct Conditions<'a> {
    precedence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_regex: Option<&'a str>,
    prefix: &'a str,
    prefix_exact: bool,
    prefix_regex: bool,
    case_sensitive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    method_regex: bool,
    headers: Values<'a>,
    regex_headers: BTreeMap<&'a str, &'a str>,
    query_parameters: Values<'a>,
    regex_query_parameters: BTreeMap<&'a str, &'a str>,
}

/// The value asked for; `true` asks for presence only.
type Values<'a> = BTreeMap<&'a str, Wanted<'a>>;

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Wanted<'a> {
    Present(bool),
    Exact(std::borrow::Cow<'a, str>),
}

impl<'a> Conditions<'a> {
    fn of(matches: &'a RouteMatch) -> Self {
        let (hostname, host_regex) = authority(&matches.authority);
        let (method, method_regex) = match &matches.method {
            None => (None, false),
            Some(MethodMatch::Exact(method)) => (Some(method.as_str()), false),
            Some(MethodMatch::Regex(pattern)) => (Some(pattern.as_str()), true),
        };
        let case_sensitive = match &matches.path {
            PathMatch::Prefix { case_sensitive, .. } | PathMatch::Exact { case_sensitive, .. } => {
                *case_sensitive
            }
            PathMatch::Regex(_) => true,
        };
        let headers = matches
            .headers
            .iter()
            .map(|header| (header.name.as_str(), &header.value));
        let (headers, regex_headers) = values(headers, |value| String::from_utf8_lossy(value.as_bytes()));
        let parameters = matches
            .query
            .iter()
            .map(|parameter| (&*parameter.name, &parameter.value));
        let (query_parameters, regex_query_parameters) = values(parameters, |value| (&**value).into());
        Self {
            precedence: matches.precedence,
            hostname,
            host_regex,
            prefix: matches.path.text(),
            prefix_exact: matches!(matches.path, PathMatch::Exact { .. }),
            prefix_regex: matches!(matches.path, PathMatch::Regex(_)),
            case_sensitive,
            method,
            method_regex,
            headers,
            regex_headers,
            query_parameters,
            regex_query_parameters,
        }
    }
}

fn authority(authority: &AuthorityMatch) -> (Option<String>, Option<&str>) {
    match authority {
        AuthorityMatch::Any => (None, None),
        AuthorityMatch::Exact(text) => (Some(text.to_string()), None),
        AuthorityMatch::Suffix(text) => (Some(format!("*{text}")), None),
        AuthorityMatch::Prefix(text) => (Some(format!("{text}*")), None),
        AuthorityMatch::Regex(pattern) => (None, Some(pattern.as_str())),
    }
}

/// The conditions by name. What may be a credential is not shown.
fn values<'a, V: 'a>(
    conditions: impl Iterator<Item = (&'a str, &'a ValueMatch<V>)>,
    text: impl Fn(&'a V) -> std::borrow::Cow<'a, str>,
) -> (Values<'a>, BTreeMap<&'a str, &'a str>) {
    let mut plain = Values::new();
    let mut regexes = BTreeMap::new();
    for (name, value) in conditions {
        match value {
            ValueMatch::Present => {
                // Says less than a value that is asked for as well.
                plain.entry(name).or_insert(Wanted::Present(true));
            }
            ValueMatch::Exact(value) => {
                let hidden = may_be_credential(name);
                let shown = if hidden { HIDDEN.into() } else { text(value) };
                plain.insert(name, Wanted::Exact(shown));
            }
            ValueMatch::Regex(pattern) => {
                let hidden = may_be_credential(name);
                let shown = if hidden { HIDDEN } else { Pattern::as_str(pattern) };
                regexes.insert(name, shown);
            }
        }
    }
    (plain, regexes)
}
