//! Why nothing matched, and what came nearest.

use std::fmt::Write;

use nuncio_model::{Listener, MethodMatch, RequestHead, Route, RouteMatch, VirtualHost};

use super::way::condition;

/// So many candidates are named.
const NAMED: usize = 5;

/// No Host has the name.
pub(super) fn host(listener: &Listener, authority: &str) -> String {
    let names: Vec<&str> = listener
        .hosts
        .hosts()
        .iter()
        .map(|host| &*host.hostname)
        .collect();
    if names.is_empty() {
        return format!(
            "Listener {} has no Host: let one's hostname or selector take it in",
            listener.name
        );
    }
    format!(
        "no Host is called {authority}: Listener {} knows {}",
        listener.name,
        first(&names)
    )
}

/// No Mapping of the Host matches.
pub(super) fn route(host: &VirtualHost, head: &RequestHead<'_>) -> String {
    let routes = host.routes.routes();
    if routes.is_empty() {
        return format!(
            "Host {} has no Mapping: give one a hostname that fits it",
            host.hostname
        );
    }
    let near: Vec<_> = routes
        .iter()
        .filter(|route| route.matches.path.accepts(head.path))
        .collect();
    if near.is_empty() {
        let mut routes: Vec<_> = routes.iter().collect();
        routes.sort_by_key(|route| std::cmp::Reverse(common(route.matches.path.text(), head.path)));
        let paths: Vec<String> = routes
            .iter()
            .map(|route| condition(&route.matches.path))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        return format!(
            "no Mapping takes the path {}: the nearest are {}",
            head.path,
            first(&paths)
        );
    }
    let mut text = format!("no Mapping matches, though {} would take the path:", near.len());
    for route in near.iter().take(NAMED) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {} {};", names(route), missed(&route.matches, head));
    }
    text.trim_end_matches(';').to_owned()
}

fn names(route: &Route) -> String {
    let names: Vec<&str> = route.targets.iter().map(|target| &*target.label).collect();
    first(&names)
}

/// The conditions that the request does not meet.
fn missed(matches: &RouteMatch, head: &RequestHead<'_>) -> String {
    let mut wants = Vec::new();
    if let Some(method) = matches
        .method
        .as_ref()
        .filter(|method| !method.accepts(head.method))
    {
        wants.push(match method {
            MethodMatch::Exact(method) => format!("method {method}"),
            MethodMatch::Regex(pattern) => format!("a method like {}", pattern.as_str()),
        });
    }
    if !matches.authority.accepts(head.authority) {
        wants.push("another hostname".to_owned());
    }
    let alone = RouteMatch {
        precedence: 0,
        authority: nuncio_model::AuthorityMatch::Any,
        path: matches.path.clone(),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };
    for header in &matches.headers {
        let one = RouteMatch {
            headers: vec![header.clone()],
            ..alone.clone()
        };
        if !one.accepts(head) {
            wants.push(format!("another header {}", header.name));
        }
    }
    for parameter in &matches.query {
        let one = RouteMatch {
            query: vec![parameter.clone()],
            ..alone.clone()
        };
        if !one.accepts(head) {
            wants.push(format!("another query parameter {}", parameter.name));
        }
    }
    format!("wants {}", wants.join(" and "))
}

fn first(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Characters that two texts begin with in common.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}
