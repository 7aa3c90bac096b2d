//! The search, step by step as the gateway does it, and why it ends where it ends.

use std::borrow::Cow;

use nuncio_model::{
    Action, Forward, Guard, Guards, InsecureAction, Listener, PathMatch, RequestHead, Route, SecurityModel,
    Snapshot, Target, Unresolved, VirtualHost,
};

use super::nearest;
use super::request::Request;

/// Requests below this path are always routed: certificate authorities ask here, in cleartext.
const ACME: &str = "/.well-known/acme-challenge/";

/// How far a request comes.
#[derive(Debug, Default)]
pub(super) struct Way<'a> {
    /// The port that takes it.
    pub(super) listener: Option<&'a Listener>,
    /// The virtual host.
    pub(super) host: Option<&'a VirtualHost>,
    /// The path that is compared with routes.
    pub(super) path: String,
    /// Who takes it, with which share.
    pub(super) parts: Vec<Part<'a>>,
    /// Why it reaches no upstream; one sentence or more.
    pub(super) problem: Option<String>,
}

/// A Mapping and its share of such requests.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Its group.
    pub(super) route: &'a Route,
    /// The Mapping.
    pub(super) target: &'a Target,
    /// In percent, above 0.
    pub(super) share: usize,
    /// After the rewrite, with the query.
    pub(super) path: String,
    /// What it does not pass.
    guard: Option<&'a Guard>,
}

impl<'a> Way<'a> {
    /// Follows a request through a snapshot.
    pub(super) fn find(snapshot: &'a Snapshot, request: &Request) -> Self {
        let mut way = Self {
            path: request.path.clone(),
            ..Self::default()
        };
        way.problem = way.follow(snapshot, request).err();
        way
    }

    /// Whether every such request is sent to an upstream.
    pub(super) fn reaches_an_upstream(&self) -> bool {
        self.problem.is_none() && self.parts.iter().all(|part| part.forward().is_ok())
    }

    fn follow(&mut self, snapshot: &'a Snapshot, request: &Request) -> Result<(), String> {
        let path = nuncio_proxy::normalise(&request.path, &snapshot.settings);
        self.path = path
            .map_err(|error| format!("{error}; the gateway answers 400"))?
            .into_owned();
        let listener = listener(snapshot, request)?;
        self.listener = Some(listener);
        let authority = authority(snapshot, listener, request);
        let host = listener
            .hosts
            .find(&authority)
            .ok_or_else(|| nearest::host(listener, &authority))?;
        self.host = Some(host);
        let head = RequestHead {
            authority: &authority,
            path: &self.path,
            query: request.query.as_deref(),
            method: &request.method,
            headers: &request.headers,
        };
        let parts = parts(host, &head, &snapshot.guards);
        if parts.is_empty() {
            return Err(nearest::route(host, &head));
        }
        let left: usize = 100 - parts.iter().map(|part| part.share).sum::<usize>();
        self.parts = parts;
        if left > 0 {
            return Err(format!(
                "{left} % of such requests match no Mapping and are answered 404: the weights leave them over"
            ));
        }
        insecure(listener, host, request, &self.path)
    }
}

impl<'a> Part<'a> {
    /// Where it is sent, or why nowhere.
    pub(super) fn forward(&self) -> Result<&'a Forward, &'a Unresolved> {
        match (&self.target.action, self.guard) {
            (Action::Unresolved(unresolved), _) => Err(unresolved),
            (Action::Forward(_), Some(guard)) => Err(&guard.unresolved),
            (Action::Forward(forward), None) => Ok(forward),
        }
    }

    /// The `Host` that the upstream sees.
    pub(super) fn host_header(&self, request: &Request) -> String {
        let rewritten = self
            .forward()
            .ok()
            .and_then(|forward| forward.host_rewrite.as_ref());
        rewritten.map_or_else(
            || request.authority.clone(),
            |host| String::from_utf8_lossy(host.as_bytes()).into_owned(),
        )
    }
}

/// The port that such a request would come in on.
fn listener<'a>(snapshot: &'a Snapshot, request: &Request) -> Result<&'a Listener, String> {
    let fits = |listener: &&Listener| request.port.is_none_or(|port| listener.port == port);
    let order = |listener: &&Listener| {
        let unknown = listener
            .hosts
            .find(&authority(snapshot, listener, request))
            .is_none();
        let for_others = match listener.security_model {
            SecurityModel::Xfp => false,
            SecurityModel::Secure => !request.secure,
            SecurityModel::Insecure => request.secure,
        };
        (unknown, for_others, listener.port)
    };
    let all = snapshot.listeners.iter().map(|listener| &**listener);
    all.filter(fits)
        .min_by_key(order)
        .ok_or_else(|| no_listener(snapshot, request.port))
}

fn no_listener(snapshot: &Snapshot, port: Option<u16>) -> String {
    let ports: Vec<String> = snapshot
        .listeners
        .iter()
        .map(|listener| listener.port.to_string())
        .collect();
    match port {
        Some(port) if !ports.is_empty() => {
            format!(
                "nothing listens on port {port}: Listeners exist for {}",
                ports.join(", ")
            )
        }
        _ => "nothing listens: the manifests give no usable Listener".to_owned(),
    }
}

/// The authority as Hosts are compared with it.
fn authority<'r>(snapshot: &Snapshot, listener: &Listener, request: &'r Request) -> Cow<'r, str> {
    let own = |(_, port): &(&str, &str)| port.parse() == Ok(listener.port);
    let split = request.authority.rsplit_once(':').filter(own);
    match split {
        Some((host, _)) if snapshot.settings.strip_matching_host_port => host.into(),
        _ => request.authority.as_str().into(),
    }
}

/// Every draw of the lot, so that shares and what they leave over are those of the gateway.
fn parts<'a>(host: &'a VirtualHost, head: &RequestHead<'_>, guards: &'a Guards) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for (route, target) in (0..100).filter_map(|draw| host.routes.find(head, draw)) {
        match parts.iter_mut().find(|part| std::ptr::eq(part.target, target)) {
            Some(part) => part.share += 1,
            None => parts.push(Part {
                route,
                target,
                share: 1,
                path: upstream_path(target, head),
                guard: match &target.action {
                    Action::Forward(forward) => guards.before(forward, head.authority, head.path),
                    Action::Unresolved(_) => None,
                },
            }),
        }
    }
    parts
}

fn upstream_path(target: &Target, head: &RequestHead<'_>) -> String {
    let path = match &target.action {
        Action::Forward(forward) => forward.rewrite.apply(head.path).into_owned(),
        Action::Unresolved(_) => head.path.to_owned(),
    };
    match head.query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// Whether the Host turns the request away because it is insecure.
fn insecure(listener: &Listener, host: &VirtualHost, request: &Request, path: &str) -> Result<(), String> {
    let proto = request.headers.get("x-forwarded-proto");
    let secure = match listener.security_model {
        SecurityModel::Secure => true,
        SecurityModel::Insecure => false,
        SecurityModel::Xfp if listener.l7_depth > 0 => proto.map_or(request.secure, |proto| proto == "https"),
        SecurityModel::Xfp => request.secure,
    };
    if secure || path.starts_with(ACME) {
        return Ok(());
    }
    let name = host
        .object
        .as_ref()
        .map_or_else(|| "the default Host".to_owned(), ToString::to_string);
    let cure = "ask by https, or set spec.requestPolicy.insecure.action: Route";
    match host.insecure {
        InsecureAction::Route => Ok(()),
        InsecureAction::Redirect => Err(format!(
            "the request is insecure and {name} redirects it to https: {cure}"
        )),
        InsecureAction::Reject => Err(format!("the request is insecure and {name} answers 404: {cure}")),
    }
}

/// What a Mapping asks of the path.
pub(super) fn condition(path: &PathMatch) -> String {
    let case = |case_sensitive: &bool| {
        if *case_sensitive {
            ""
        } else {
            ", in any letter case"
        }
    };
    match path {
        PathMatch::Prefix { text, case_sensitive } => format!("prefix {text}{}", case(case_sensitive)),
        PathMatch::Exact { text, case_sensitive } => format!("exactly {text}{}", case(case_sensitive)),
        PathMatch::Regex(pattern) => format!("regex {}", pattern.as_str()),
    }
}
