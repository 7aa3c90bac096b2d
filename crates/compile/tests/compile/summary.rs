//! A snapshot as JSON that a person can read in a diff.

use nuncio_compile::Output;
use nuncio_model::{
    Action, AuthorityMatch, EndpointTable, Forward, HeaderEdits, Listener, MethodMatch, PathMatch, Problem,
    Resolve, RetryPolicy, Rewrite, Route, RouteMatch, Settings, Target, TlsOrigins, TlsSettings, Upstream,
    ValueMatch,
};
use serde_json::{Map, Value, json};

/// Everything about an outcome that a case pins down.
pub(crate) fn summary(output: &Output) -> Value {
    let snapshot = &output.snapshot;
    let mut summary = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = match &value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !empty {
            summary.insert(name.into(), value);
        }
    };
    put(
        "listeners",
        snapshot
            .listeners
            .iter()
            .map(|listener| listener_of(listener, output))
            .collect(),
    );
    put(
        "upstreams",
        snapshot
            .upstreams
            .iter()
            .map(|upstream| (upstream.name.to_string(), upstream_of(upstream)))
            .collect(),
    );
    put("endpoints", endpoints_of(&output.endpoints));
    put("settings", settings_of(&snapshot.settings));
    put("problems", snapshot.problems.iter().map(problem_of).collect());
    Value::Object(summary)
}

fn listener_of(listener: &Listener, output: &Output) -> Value {
    let hosts: Vec<Value> = listener
        .hosts
        .hosts()
        .iter()
        .map(|host| {
            let routes: Vec<Value> = host.routes.routes().iter().map(|route| route_of(route, output)).collect();
            let name = host.object.as_ref().map_or("none".to_owned(), ToString::to_string);
            json!({"hostname": host.hostname, "object": name, "insecure": format!("{:?}", host.insecure), "routes": routes})
        })
        .collect();
    let Listener {
        name,
        port,
        security_model,
        l7_depth,
        ..
    } = listener;
    json!({"listener": format!("{name} on {port}, {security_model:?}, l7Depth {l7_depth}"), "hosts": hosts})
}

fn route_of(route: &Route, output: &Output) -> Value {
    let targets: Vec<Value> = route
        .targets
        .iter()
        .map(|target| target_of(target, output))
        .collect();
    json!({"when": conditions_of(&route.matches), "targets": targets})
}

fn conditions_of(matches: &RouteMatch) -> String {
    let RouteMatch {
        precedence,
        authority,
        path,
        method,
        headers,
        query,
    } = matches;
    let mut text = match path {
        PathMatch::Prefix { text, case_sensitive } => format!("prefix {text}{}", any_case(*case_sensitive)),
        PathMatch::Exact { text, case_sensitive } => format!("exactly {text}{}", any_case(*case_sensitive)),
        PathMatch::Regex(pattern) => format!("regex {}", pattern.as_str()),
    };
    if *precedence != 0 {
        text.push_str(&format!(", precedence {precedence}"));
    }
    match authority {
        AuthorityMatch::Any => {}
        AuthorityMatch::Exact(name) => text.push_str(&format!(", host {name}")),
        AuthorityMatch::Suffix(suffix) => text.push_str(&format!(", host *{suffix}")),
        AuthorityMatch::Prefix(prefix) => text.push_str(&format!(", host {prefix}*")),
        AuthorityMatch::Regex(pattern) => text.push_str(&format!(", host regex {}", pattern.as_str())),
    }
    match method {
        None => {}
        Some(MethodMatch::Exact(method)) => text.push_str(&format!(", method {method}")),
        Some(MethodMatch::Regex(pattern)) => text.push_str(&format!(", method regex {}", pattern.as_str())),
    }
    for header in headers {
        let value = value_of(&header.value, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        });
        text.push_str(&format!(", header {} {value}", header.name));
    }
    for parameter in query {
        let value = value_of(&parameter.value, ToString::to_string);
        text.push_str(&format!(", query {} {value}", parameter.name));
    }
    text
}

fn any_case(case_sensitive: bool) -> &'static str {
    if case_sensitive { "" } else { " in any case" }
}

fn value_of<V>(value: &ValueMatch<V>, exact: impl Fn(&V) -> String) -> String {
    match value {
        ValueMatch::Present => "present".into(),
        ValueMatch::Exact(value) => format!("= {}", exact(value)),
        ValueMatch::Regex(pattern) => format!("~ {}", pattern.as_str()),
    }
}

fn target_of(target: &Target, output: &Output) -> Value {
    let head = format!("{} up to {}", target.label, target.share_end);
    match &target.action {
        Action::Forward(forward) => json!({"mapping": head, "to": forward_of(forward, output)}),
        Action::Unresolved(unresolved) => json!({"mapping": head, "answers": unresolved.reason.code()}),
    }
}

fn forward_of(forward: &Forward, output: &Output) -> String {
    let mut text = output.snapshot.upstream(forward.upstream).name.to_string();
    match &forward.rewrite {
        Rewrite::None => {}
        Rewrite::Prefix {
            matched: Some(length),
            with,
        } => text.push_str(&format!(", first {length} bytes of path -> {with}")),
        Rewrite::Prefix { matched: None, with } => text.push_str(&format!(", path -> {with}")),
        Rewrite::Regex {
            pattern,
            substitution,
        } => {
            text.push_str(&format!(", path {} -> {substitution}", pattern.as_str()));
        }
    }
    if let Some(host) = &forward.host_rewrite {
        text.push_str(&format!(", host {}", String::from_utf8_lossy(host.as_bytes())));
    }
    if let Some(RetryPolicy {
        on,
        retries,
        per_try_timeout,
    }) = &forward.retry
    {
        text.push_str(&format!(", {retries} retries on {}", on.as_str()));
        if let Some(limit) = per_try_timeout {
            text.push_str(&format!(" within {limit:?} each"));
        }
    }
    match forward.timeout {
        Some(timeout) if timeout.as_millis() == 3000 => {}
        Some(timeout) => text.push_str(&format!(", timeout {timeout:?}")),
        None => text.push_str(", no timeout"),
    }
    if forward.connect_timeout.as_millis() != 3000 {
        text.push_str(&format!(", connect timeout {:?}", forward.connect_timeout));
    }
    text.push_str(&edits_of("request", &forward.request_headers));
    text.push_str(&edits_of("response", &forward.response_headers));
    if !forward.allow_upgrade.is_empty() {
        text.push_str(&format!(", upgrades {}", forward.allow_upgrade.join(" ")));
    }
    if forward.grpc {
        text.push_str(", grpc");
    }
    text
}

fn edits_of(side: &str, edits: &HeaderEdits) -> String {
    let mut text = String::new();
    for addition in &edits.add {
        let sign = if addition.append { "+" } else { "=" };
        text.push_str(&format!(
            ", {side} {sign}{}: {}",
            addition.name,
            String::from_utf8_lossy(addition.value.as_bytes())
        ));
    }
    for name in &edits.remove {
        text.push_str(&format!(", {side} -{name}"));
    }
    text
}

fn upstream_of(upstream: &Upstream) -> Value {
    let identity = &upstream.identity;
    let resolve = match &identity.resolve {
        Resolve::Fixed(addresses) => format!("fixed {addresses:?}"),
        Resolve::Dns(name) => format!("dns {name}"),
        Resolve::Service(key) => format!("service {}.{}:{}", key.name, key.namespace, key.port),
    };
    let mappings: Vec<String> = upstream
        .mappings
        .iter()
        .map(nuncio_model::ObjectRef::qualified)
        .collect();
    let mut summary = json!({
        "identity": format!("{}:{}, {:?}", identity.host, identity.port, identity.http),
        "resolve": resolve,
        "mappings": mappings,
    });
    if let (Some(tls), Some(origins)) = (&identity.tls, &upstream.origins) {
        summary["tls"] = tls_of(tls, origins);
    }
    summary
}

fn tls_of(tls: &TlsSettings, origins: &TlsOrigins) -> Value {
    let roots = match (&tls.verify.roots.bundle, tls.verify.roots.system) {
        (Some(bundle), system) => format!(
            "{} of a bundle{}",
            bundle.anchors.len(),
            if system { " and system" } else { "" }
        ),
        (None, true) => "system".into(),
        (None, false) => "none".into(),
    };
    let names: Vec<String> = tls.verify.names.iter().map(ToString::to_string).collect();
    let alpn: Vec<&str> = tls.alpn.iter().map(|alpn| alpn.as_str()).collect();
    let mut summary = json!({
        "enabled": origins.enabled.to_string(),
        "sni": format!("{} ({})", tls.sni.as_deref().unwrap_or("none"), origins.sni),
        "verify": format!("{} ({})", tls.verify.mode.as_str(), origins.verify_mode),
        "names": format!("{} ({})", names.join(" "), origins.verify_names),
        "roots": format!("{roots} ({})", origins.roots),
        "versions": format!("{} ({}) to {} ({})", tls.min_version.as_str(), origins.min_version, tls.max_version.as_str(), origins.max_version),
        "alpn": format!("{} ({})", alpn.join(" "), origins.alpn),
    });
    if let (Some(crls), Some(origin)) = (&tls.verify.crls, &origins.crl) {
        summary["crl"] = format!("{} lists ({origin})", crls.lists.len()).into();
    }
    if let Some(origin) = &origins.pins {
        let pins: Vec<String> = tls.verify.pins.iter().map(ToString::to_string).collect();
        summary["pins"] = format!("{} ({origin})", pins.join(" ")).into();
    }
    if let Some(origin) = &origins.client_certificate {
        summary["client certificate"] = origin.to_string().into();
    }
    if !tls.cipher_suites.is_empty() {
        summary["cipher suites"] =
            format!("{} ({})", tls.cipher_suites.join(" "), origins.cipher_suites).into();
    }
    if !tls.groups.is_empty() {
        summary["groups"] = format!("{} ({})", tls.groups.join(" "), origins.groups).into();
    }
    if origins.stale {
        summary["stale"] = true.into();
    }
    summary
}

fn endpoints_of(table: &EndpointTable) -> Value {
    let line = |(key, addresses): (&nuncio_model::ServiceKey, &std::sync::Arc<[std::net::SocketAddr]>)| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        (
            format!("{}.{}:{}", key.name, key.namespace, key.port),
            Value::from(addresses),
        )
    };
    Value::Object(table.services.iter().map(line).collect())
}

fn settings_of(settings: &Settings) -> Value {
    if *settings == Settings::default() {
        json!({})
    } else {
        format!("{settings:?}").into()
    }
}

fn problem_of(problem: &Problem) -> String {
    let object = problem
        .object
        .as_ref()
        .map_or("nothing".to_owned(), ToString::to_string);
    let Problem {
        severity,
        reason,
        message,
        ..
    } = problem;
    let field = problem
        .field
        .as_deref()
        .map(|field| format!(", {field}"))
        .unwrap_or_default();
    format!("{} {reason}, {object}{field}: {message}", severity.as_str())
}
