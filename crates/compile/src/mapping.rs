//! Mappings: from a `spec` to conditions and an action.
//!
//! A mistake in what a request must look like may leave a Mapping without a route, because there is
//! nothing to match. Any other leaves the route and makes it answer why it cannot be served.

pub(crate) mod conditions;
pub(crate) mod headers;
pub(crate) mod reading;
mod resolving;
pub(crate) mod retry;
mod rewrite;
mod surroundings;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use nuncio_crds::MappingSpec;
use nuncio_model::{
    Alpn, AutoSni, Forward, HeaderEdits, Origin, PathMatch, Reason, Resolve, RetryPolicy, TlsSettings,
    Unresolved, UpstreamHost, UpstreamHttp, UpstreamIndex,
};

use crate::Object;
use crate::context::{ContextTls, Found, ServerName, Sourced};
use crate::decode::{self, Decoded};
use crate::endpoints::Route;
use crate::groups::{Groups, Member};
use crate::mapping::reading::{
    Asked, AskedContext, AskedResolver, AskedService, InOrder, Kept, Known, Reading, Routed, Wanted,
};
use crate::module::DEFAULT_TIMEOUT;
use crate::names;
use crate::origination::{self, Wish};
use crate::problems::Problems;
use crate::resolvers::Finds;
use crate::service::{self, ClusterName, Placed, Scheme, Service};
use crate::upstreams::{Parts, Upstreams};
use conditions::Conditions;

pub(crate) use surroundings::Surroundings;

/// The upstream of a Mapping whose upstream is not known, or that has none.
const NOWHERE: UpstreamIndex = UpstreamIndex(u32::MAX);

/// What Mappings make.
pub(crate) struct Made<'a> {
    pub(crate) groups: Groups<'a>,
    pub(crate) upstreams: Upstreams,
    /// What was read, in the order of the Mappings.
    pub(crate) kept: Vec<Kept<'a>>,
    /// What was read in the last compile, in the same order.
    pub(crate) before: InOrder<'a>,
}

/// Compiles one Mapping into `made`.
pub(crate) fn compile<'a>(
    object: &'a Object,
    around: &Surroundings<'_>,
    made: &mut Made<'a>,
    problems: &mut Problems,
) {
    let before = made.before.next(object);
    let before = before.filter(|known| known.holds(object, around));
    let reading = match before {
        Some(known) => Arc::clone(&known.reading),
        None => Arc::new(read(object, around, &made.upstreams)),
    };
    problems.extend(&reading.told);
    let position = made.kept.len();
    made.kept.push(Kept {
        object,
        reading: Arc::clone(&reading),
        upstream: None,
        before,
    });
    let Some(routed) = &reading.routed else {
        return;
    };
    let Some(group) = made.groups.join(object, routed, problems) else {
        return;
    };
    problems.extend(&routed.told);
    let upstream = routed.action.as_ref().ok().map(|wanted| {
        let upstream = before.and_then(|known| Some(&known.upstream.as_ref()?.1));
        made.upstreams.add(&wanted.upstream, &object.reference, upstream)
    });
    made.kept[position].upstream = upstream;
    let led_to = |known: &Known| known.upstream.as_ref().map(|(index, _)| *index);
    let route_before = before
        .filter(|known| led_to(known) == upstream)
        .and_then(|known| known.route.clone());
    let member = Member {
        object,
        routed: Arc::clone(routed),
        position,
        upstream: upstream.unwrap_or(NOWHERE),
        route_before,
    };
    made.groups.add(group, member, problems);
}

/// Reads one Mapping; `upstreams` are those so far.
fn read(object: &Object, around: &Surroundings<'_>, upstreams: &Upstreams) -> Reading {
    let mut problems = Problems::default();
    let matched = matched(object, &mut problems);
    let told = problems.found();
    let routed = matched.map(|(decoded, conditions, connect_timeout)| {
        let mut problems = Problems::default();
        let mut draft = Draft {
            object,
            spec: &decoded.spec,
            around,
            problems: &mut problems,
            asked: Asked::default(),
        };
        let action = match draft.unreadable(&decoded) {
            Some(unresolved) => Err(unresolved),
            None => draft.wanted(&conditions.matches.value.path, connect_timeout, upstreams),
        };
        Arc::new(Routed {
            connect_timeout,
            weight: decoded.spec.weight,
            has_retry_policy: decoded.spec.retry_policy.is_some(),
            action,
            asked: draft.asked,
            told: problems.found(),
            conditions,
        })
    });
    Reading { told, routed }
}

/// What decides whether a Mapping has a route; none where it has not.
fn matched(object: &Object, problems: &mut Problems) -> Option<(Decoded<MappingSpec>, Conditions, Duration)> {
    let decoded = decode::spec::<MappingSpec>(object, problems);
    if decoded.broken(conditions::FIELDS).is_some() {
        return None;
    }
    if decoded.spec.shadow == Some(true) {
        let message = "`spec.shadow` is not supported yet, so the Mapping has no route: its service must not answer in earnest; remove the Mapping or the field";
        problems.error(object, "not_supported_yet", "spec.shadow", message);
        return None;
    }
    let conditions = conditions::read(object, &decoded.spec, problems)?;
    let connect_timeout = connect_timeout(object, &decoded.spec, problems);
    Some((decoded, conditions, connect_timeout))
}

fn connect_timeout(object: &Object, spec: &MappingSpec, problems: &mut Problems) -> Duration {
    match spec.connect_timeout_ms.map(|value| (value, u64::try_from(value))) {
        None => DEFAULT_TIMEOUT,
        Some((_, Ok(millis))) if millis > 0 => Duration::from_millis(millis),
        Some((value, _)) => {
            let message = format!(
                "`spec.connect_timeout_ms` is {value}, so the default of 3000 is used; it must be above 0"
            );
            problems.error(object, "bad_value", "spec.connect_timeout_ms", message);
            DEFAULT_TIMEOUT
        }
    }
}

/// A Mapping whose action is being made.
struct Draft<'d, 'p> {
    object: &'d Object,
    spec: &'d MappingSpec,
    around: &'d Surroundings<'d>,
    problems: &'p mut Problems,
    asked: Asked,
}

/// Where requests go: the `service` in its namespace, with port and way there.
struct Destination<'d> {
    placed: Placed<'d>,
    scheme: Option<Scheme>,
    /// As written; without it the default of the scheme counts.
    port: Option<u16>,
}

impl<'d> Draft<'d, '_> {
    fn invalid(&self, message: &str) -> Unresolved {
        Unresolved {
            reason: Reason::ServiceInvalid,
            message: message.into(),
        }
    }

    /// Reports what makes the Mapping answer 503.
    fn refuse(&mut self, reason: &'static str, field: &str, message: &str) -> Unresolved {
        self.problems.error(self.object, reason, field, message);
        self.invalid(message)
    }

    fn origin(&self, field: &Arc<str>) -> Origin {
        Origin::Field {
            object: self.object.reference.clone(),
            field: Arc::clone(field),
        }
    }

    /// A field of a wrong type: what it should have said is unknown, so nothing is sent.
    fn unreadable(&self, decoded: &Decoded<MappingSpec>) -> Option<Unresolved> {
        if let Some(message) = decoded.broken(&["tls"]) {
            return Some(Unresolved {
                reason: Reason::TlsConfigUnresolved,
                message: message.into(),
            });
        }
        decoded.any_broken().map(|message| self.invalid(message))
    }

    fn wanted(
        &mut self,
        path: &PathMatch,
        connect_timeout: Duration,
        upstreams: &Upstreams,
    ) -> Result<Wanted, Unresolved> {
        if self.spec.host_redirect == Some(true) {
            let message = "`spec.host_redirect` is not supported yet, so requests are answered 503 instead of a redirect; remove the Mapping or the field";
            return Err(self.refuse("not_supported_yet", "spec.host_redirect", message));
        }
        // All of it is read before any of it is refused, so that every problem is told at once.
        if self.spec.tls.as_deref() == Some("") {
            let message = "`spec.tls` is empty and names no TLSContext; name one, or remove it";
            self.problems
                .warning(self.object, "no_effect", "spec.tls", message);
        }
        let found = self
            .spec
            .tls
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(|text| self.context(text));
        let destination = self.destination();
        let host_rewrite = self.host_rewrite();
        let rewrite = rewrite::read(self.object, self.spec, path, self.problems);
        let resolver = self.resolver();
        let timeout = self.timeout();
        let retry = self.retry();
        let request_headers = self.request_headers();
        let response_headers = self.response_headers();

        let destination = destination?;
        let tls = match found {
            Some(Found { tls, stale }) => {
                let tls = tls.map_err(|message| Unresolved {
                    reason: Reason::TlsConfigUnresolved,
                    message,
                })?;
                Some((tls, stale))
            }
            None => None,
        };
        resolver?;
        let host_rewrite = host_rewrite?;
        let rewrite = rewrite.map_err(|message| self.invalid(&message))?;
        let context = tls.as_ref().and_then(|(tls, _)| tls.context.clone());
        let parts = self.parts(destination, tls, host_rewrite.as_ref());
        let host_rewrite = host_rewrite.or_else(|| self.endpoint_name(&parts.host, &parts.resolve));
        let forward = Forward {
            upstream: NOWHERE,
            rewrite,
            host_rewrite,
            retry,
            timeout,
            connect_timeout,
            request_headers,
            response_headers,
            allow_upgrade: self.allow_upgrade(),
            bypass_auth: self.spec.bypass_auth == Some(true),
            grpc: self.spec.grpc == Some(true),
        };
        Ok(Wanted {
            forward,
            upstream: upstreams.candidate(parts),
            context,
        })
    }

    fn context(&mut self, text: &str) -> Found {
        let mut told = Problems::default();
        let found = self.around.contexts.look_up(self.object, text, &mut told);
        let told = told.found();
        self.problems.extend(&told);
        self.asked.context = Some(AskedContext {
            text: text.to_owned(),
            found: found.clone(),
            told,
        });
        found
    }

    fn route(&mut self, cluster: ClusterName<'_>, port: u16, is_meant: bool) -> Route {
        let ClusterName {
            namespace, service, ..
        } = cluster;
        let route = self.around.services.route(namespace, service, port, is_meant);
        self.asked.service = Some(AskedService {
            namespace: namespace.to_owned(),
            name: service.to_owned(),
            port,
            is_meant,
            route: route.clone(),
        });
        route
    }

    fn destination(&mut self) -> Result<Destination<'d>, Unresolved> {
        const FIELD: &str = "spec.service";
        let Some(text) = self.spec.service.as_deref() else {
            return Err(self.refuse(
                "missing_field",
                FIELD,
                "the Mapping has no `spec.service`, so its requests have nowhere to go; add it",
            ));
        };
        let shown = service::without_credentials(text.trim());
        let service = match Service::parse(text) {
            Ok(service) => service,
            Err(why) => {
                return Err(self.refuse(
                    "service_invalid",
                    FIELD,
                    &format!("`{FIELD}` is `{shown}`, which {why}"),
                ));
            }
        };
        if !service.dropped.is_empty() {
            let message = format!(
                "`{FIELD}` is `{shown}`, of which only host and port are used, not the {}; write only these",
                service.dropped.join(" and the ")
            );
            self.problems
                .notice(self.object, "service_too_long", FIELD, message);
        }
        let placed = service::place(
            service.host,
            &self.object.reference.namespace,
            &self.around.options.namespace,
            self.around.gateway.services_in_own_namespace,
        );
        Ok(Destination {
            placed,
            scheme: service.scheme,
            port: service.port,
        })
    }

    /// Without one of its own, a Mapping has the Module's, else what is built in.
    fn resolver(&mut self) -> Result<(), Unresolved> {
        const FIELD: &str = "spec.resolver";
        let own = self.spec.resolver.as_deref().filter(|name| !name.is_empty());
        let (says, name) = match (own, self.around.gateway.resolver.as_deref()) {
            (Some(own), _) => (format!("`{FIELD}`"), own),
            (None, Some(default)) => ("`spec.config.resolver` of the Module".to_owned(), default),
            (None, None) => return Ok(()),
        };
        let own = &self.object.reference.namespace;
        let found = self
            .around
            .resolvers
            .find(name, own, &self.around.options.namespace);
        self.asked.resolver = Some(AskedResolver {
            name: name.to_owned(),
            found,
        });
        let (reason, message) = match found {
            Some(Finds::Services) => return Ok(()),
            Some(Finds::Consul) => (
                "not_supported_yet",
                format!(
                    "{says} is `{name}`, which finds services in Consul; that is not supported, so nothing is sent; use kubernetes-endpoint"
                ),
            ),
            None => (
                "unknown_resolver",
                format!(
                    "{says} is `{name}`, but there is no such resolver, so nothing is sent; use kubernetes-endpoint, or add a KubernetesEndpointResolver of this name"
                ),
            ),
        };
        Err(self.refuse(reason, FIELD, &message))
    }

    fn host_rewrite(&mut self) -> Result<Option<HeaderValue>, Unresolved> {
        const FIELD: &str = "spec.host_rewrite";
        let Some(text) = self.spec.host_rewrite.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if self.spec.auto_host_rewrite == Some(true) {
            let message = format!(
                "`{FIELD}` and `spec.auto_host_rewrite` both say which host is sent; keep one of them"
            );
            return Err(self.refuse("conflicting_fields", FIELD, &message));
        }
        if let Some(host) = service::host_in_url(text) {
            let shown = service::without_credentials(text);
            let message =
                format!("`{FIELD}` is `{shown}`, which is no host and would be sent as one; write `{host}`");
            return Err(self.refuse("bad_value", FIELD, &message));
        }
        const ONE: &str = "write one host name";
        if let Some((what, fix)) = names::impossible_host(text, ONE, ONE) {
            let message = format!("`{FIELD}` is `{}`, which {what}; {fix}", text.escape_debug());
            return Err(self.refuse("bad_value", FIELD, &message));
        }
        match HeaderValue::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                let message = format!("`{FIELD}` has characters that no host has; correct it");
                Err(self.refuse("bad_value", FIELD, &message))
            }
        }
    }

    /// What `auto_host_rewrite` sends (row S15): the name by which the endpoints were found, without port, as
    /// Envoy does. Endpoints of a Service have no names of their own, so theirs is the Service's.
    fn endpoint_name(&self, host: &UpstreamHost, resolve: &Resolve) -> Option<HeaderValue> {
        if self.spec.auto_host_rewrite != Some(true) {
            return None;
        }
        let name = match resolve {
            Resolve::Dns(name) => name.to_string(),
            Resolve::Fixed(_) | Resolve::Service(_) => host.to_string(),
        };
        HeaderValue::from_str(name.trim_end_matches('.')).ok()
    }

    fn timeout(&mut self) -> Option<Duration> {
        let default = self.around.gateway.request_timeout;
        match self.spec.timeout_ms.map(|value| (value, u64::try_from(value))) {
            None => default,
            Some((_, Ok(0))) => None,
            Some((_, Ok(millis))) => Some(Duration::from_millis(millis)),
            Some((value, Err(_))) => {
                let message = format!(
                    "`spec.timeout_ms` is {value}, so the default is used; it must be 0, for no limit, or above"
                );
                self.problems
                    .error(self.object, "bad_value", "spec.timeout_ms", message);
                default
            }
        }
    }

    fn retry(&mut self) -> Option<RetryPolicy> {
        match &self.spec.retry_policy {
            Some(policy) => retry::read(self.object, "spec.retry_policy", policy, self.problems),
            None => self.around.gateway.retry.clone(),
        }
    }

    fn request_headers(&mut self) -> HeaderEdits {
        let (spec, defaults) = (self.spec, &self.around.gateway.request_headers);
        HeaderEdits {
            add: spec.add_request_headers.as_ref().map_or_else(
                || defaults.add.clone(),
                |map| headers::additions(self.object, "spec.add_request_headers", map, self.problems),
            ),
            remove: spec.remove_request_headers.as_ref().map_or_else(
                || defaults.remove.clone(),
                |names| headers::removals(self.object, "spec.remove_request_headers", names, self.problems),
            ),
        }
    }

    fn response_headers(&mut self) -> HeaderEdits {
        let (spec, defaults) = (self.spec, &self.around.gateway.response_headers);
        HeaderEdits {
            add: spec.add_response_headers.as_ref().map_or_else(
                || defaults.add.clone(),
                |map| headers::additions(self.object, "spec.add_response_headers", map, self.problems),
            ),
            remove: spec.remove_response_headers.as_ref().map_or_else(
                || defaults.remove.clone(),
                |names| headers::removals(self.object, "spec.remove_response_headers", names, self.problems),
            ),
        }
    }

    /// Of `use_websocket` only the presence counts.
    fn allow_upgrade(&self) -> Vec<Arc<str>> {
        let named = self
            .spec
            .allow_upgrade
            .iter()
            .flatten()
            .map(|protocol| protocol.to_lowercase());
        let websocket = self.spec.use_websocket.map(|_| "websocket".to_owned());
        let mut protocols: Vec<Arc<str>> = Vec::new();
        for protocol in named.chain(websocket) {
            if !protocols.iter().any(|known| **known == *protocol) {
                protocols.push(protocol.into());
            }
        }
        protocols
    }

    /// The upstream: scheme, port and TLS by table C.2, without its ways back to cleartext.
    fn parts(
        &mut self,
        destination: Destination<'d>,
        context: Option<(Arc<ContextTls>, bool)>,
        host_rewrite: Option<&HeaderValue>,
    ) -> Parts {
        let Destination {
            placed:
                Placed {
                    host,
                    namespace,
                    was_bare,
                },
            scheme,
            port,
        } = destination;
        let speaks_tls = context.is_some() || scheme == Some(Scheme::Https);
        self.tell_scheme(speaks_tls, scheme, port);
        let port = port.unwrap_or(if speaks_tls { 443 } else { 80 });
        let cluster = match &host {
            UpstreamHost::Name(name) => ClusterName::of(name, namespace),
            UpstreamHost::Ip(_) => None,
        };
        const OTHER: Route = Route::UnknownService { exists_not: false };
        let is_meant = |cluster: &ClusterName<'_>| cluster.certain || was_bare;
        let route = cluster.map_or(OTHER, |cluster| self.route(cluster, port, is_meant(&cluster)));
        if let (Route::UnknownService { exists_not: true }, Some(cluster)) = (&route, cluster) {
            self.tell_unknown_service(cluster);
        }
        let is_unknown = matches!(route, Route::UnknownService { .. });
        let cluster = cluster.filter(|cluster| is_meant(cluster) || !is_unknown);
        let resolve = self.resolve(&host, route, port);
        let grpc = self.spec.grpc.map(|value| Sourced {
            value,
            origin: self.origin(&self.around.fields.grpc),
        });
        if !speaks_tls {
            let http = if self.spec.grpc == Some(true) {
                UpstreamHttp::Http2
            } else {
                UpstreamHttp::Http1
            };
            return Parts {
                host,
                port,
                resolve,
                tls: None,
                http,
            };
        }
        let by_context = scheme != Some(Scheme::Https);
        let (tls, stale) = context.unwrap_or_else(|| (Arc::clone(&self.around.plain), false));
        let fields = &self.around.fields;
        // `auto_sni` makes the server name that of the authority, whoever rewrites that.
        let endpoint_name = tls
            .auto_sni
            .as_ref()
            .and_then(|_| self.endpoint_name(&host, &resolve));
        let authority = match (host_rewrite, &endpoint_name) {
            (Some(host), _) => Some((host, &fields.host_rewrite)),
            (None, Some(name)) => Some((name, &fields.auto_host_rewrite)),
            (None, None) => None,
        };
        let wish = Wish {
            enabled: self.origin(if by_context { &fields.tls } else { &fields.service }),
            host: &host,
            host_origin: self.origin(&fields.service),
            cluster,
            host_rewrite: self.server_name(authority, &tls),
            keeps_authority: authority.is_none(),
            grpc,
            stale,
        };
        let originated = origination::originate(&tls, wish);
        self.tell_protocol(&originated.settings);
        self.tell_unsent_name(&host, &originated.settings);
        let http = originated.http;
        Parts {
            host,
            port,
            resolve,
            tls: Some((originated.settings, originated.origins)),
            http,
        }
    }

    fn tell_scheme(&mut self, speaks_tls: bool, scheme: Option<Scheme>, port: Option<u16>) {
        const FIELD: &str = "spec.service";
        if speaks_tls && scheme == Some(Scheme::Http) {
            let message = format!(
                "`{FIELD}` says http://, but `tls` names a TLSContext, so TLS is spoken; write https://"
            );
            self.problems.notice(self.object, "tls_over_http", FIELD, message);
        }
        if !speaks_tls && scheme.is_none() && port == Some(443) {
            let message = format!(
                "`{FIELD}` has port 443 without https://, so cleartext is sent there; write https:// if the port speaks TLS"
            );
            self.problems
                .warning(self.object, "cleartext_to_443", FIELD, message);
        }
    }

    /// An authority that a field rewrites to, as a server name; a context's own `sni` wins over it.
    fn server_name(
        &mut self,
        rewritten: Option<(&HeaderValue, &Arc<str>)>,
        tls: &ContextTls,
    ) -> Option<Sourced<ServerName>> {
        let (authority, field) = rewritten?;
        let text = authority.to_str().ok()?;
        if tls.sni.is_some() {
            return None;
        }
        let name = origination::server_name(text);
        if name.is_none() {
            let message = format!(
                "`{field}` gives `{text}`, which is no DNS name, so the host of `service` is the server name that is sent; set `sni` in a TLSContext"
            );
            self.problems
                .warning(self.object, "bad_server_name", field, message);
        }
        name.map(|value| Sourced {
            value,
            origin: self.origin(field),
        })
    }

    fn tell_protocol(&mut self, settings: &TlsSettings) {
        if self.spec.grpc == Some(true) && settings.alpn.contains(&Alpn::Http1) && !settings.offers_http2() {
            let message = "`spec.grpc` needs h2, which `alpn_protocols` of the TLSContext does not offer, so requests will fail; add h2 there";
            self.problems
                .warning(self.object, "grpc_without_h2", "spec.grpc", message);
        }
    }

    /// A host may be looked up and still be none that TLS can carry, such as `svc.2`.
    fn tell_unsent_name(&mut self, host: &UpstreamHost, settings: &TlsSettings) {
        const FIELD: &str = "spec.service";
        let UpstreamHost::Name(name) = host else { return };
        let is_asked_for = settings
            .verify
            .names
            .first()
            .is_some_and(|first| first.to_string() == **name);
        if settings.sni.is_none() && settings.auto_sni == AutoSni::Off && is_asked_for {
            let message = format!(
                "the host `{name}` of `{FIELD}` cannot be sent as a server name, because a part of it begins or ends with a hyphen or its last part is a number, so none is sent; set `sni` in a TLSContext"
            );
            self.problems
                .warning(self.object, "bad_server_name", FIELD, message);
        }
    }
}
