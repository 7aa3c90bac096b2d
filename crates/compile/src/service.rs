//! The `service` of a Mapping: its grammar, and the host it means.
//!
//! What the reference routes somewhere else than it says (a bad port, an unknown scheme) is refused
//! here (decision 12), and so is a slip that would send cleartext where TLS was meant (decision 24).

mod slip;

use std::borrow::Cow;
use std::net::IpAddr;

use nuncio_model::UpstreamHost;

use crate::names;

pub(crate) use slip::{host_in_url, without_credentials};

/// A `service` string, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) scheme: Option<Scheme>,
    /// Before its namespace is added.
    pub(crate) host: UpstreamHost,
    /// Absent where none is written.
    pub(crate) port: Option<u16>,
    /// What stands in the string and means nothing there, such as a path (row D19).
    pub(crate) dropped: Vec<&'static str>,
}

/// The schemes that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Service {
    /// Reads `[scheme://]host[:port]`; anything after it is dropped (C1).
    ///
    /// # Errors
    /// Why the string cannot be used and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed != text {
            return Err(format!(
                "has white space around it; write `{}`",
                without_credentials(trimmed)
            ));
        }
        let bare = text.trim_matches(['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']);
        if bare != text && !bare.is_empty() {
            return Err(format!(
                "has quotes that are a part of it; write `{}`",
                without_credentials(bare)
            ));
        }
        let (scheme, rest) = take_scheme(text)?;
        let secure = scheme.map(|scheme| scheme == Scheme::Https);
        slip::found(rest, secure)?;
        let mut dropped = Vec::new();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        match tail.chars().next() {
            Some('/') if tail != "/" => dropped.push("path"),
            Some('?') => dropped.push("query"),
            Some('#') => dropped.push("fragment"),
            _ => {}
        }
        let authority = match authority.rsplit_once('@') {
            Some((_, authority)) => {
                dropped.push("user");
                authority
            }
            None => authority,
        };
        let (host, port) = split_port(authority)?;
        let host = read_host(host)?;
        if let UpstreamHost::Name(name) = &host {
            slip::host(name, port, secure)?;
        }
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(read_port(port)?),
        };
        Ok(Self {
            scheme,
            host,
            port,
            dropped,
        })
    }
}

/// Only what stands right before `://` is a scheme; one that comes later is part of a path or query (C2).
fn take_scheme(text: &str) -> Result<(Option<Scheme>, &str), String> {
    let Some((scheme, rest)) = text
        .split_once("://")
        .filter(|(before, _)| !before.is_empty())
        .filter(|(before, _)| !before.contains(['/', '?', '#']) || slip::is_torn_scheme(before))
    else {
        return Ok((None, text));
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err(slip::no_scheme(scheme, rest));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok((Some(Scheme::Http), rest)),
        "https" => Ok((Some(Scheme::Https), rest)),
        _ => Err(slip::unknown_scheme(scheme, rest)),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, rest) = inner
            .split_once(']')
            .ok_or("has a `[` without its `]`; close it after the IPv6 address")?;
        if !host.contains(':') {
            return Err(format!(
                "has `{host}` in brackets, which is no IPv6 address; write it without them"
            ));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("has something between the `]` and the port; remove it".into()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') && !authority.bytes().all(is_of_ipv6) => {
            Err("has more than one port; write one".into())
        }
        Some((_, port)) if port.contains(':') => {
            Err("has several colons; put an IPv6 address in brackets, such as [2001:db8::1]:8443".into())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn is_of_ipv6(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

fn read_host(text: &str) -> Result<UpstreamHost, String> {
    if text.is_empty() {
        return Err("has no host; write [scheme://]host[:port]".into());
    }
    if text.contains(':') {
        return match text.parse::<IpAddr>() {
            Ok(ip) => Ok(UpstreamHost::Ip(ip)),
            Err(_) if text.contains('%') => Err(
                "has an IPv6 address with a zone, which is not supported; use an address without one".into(),
            ),
            Err(_) => Err(format!(
                "has `{text}` in brackets, which is no IPv6 address; correct it"
            )),
        };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(UpstreamHost::Ip(ip));
    }
    let decoded = percent_decode(text)?;
    if decoded.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "has the number `{decoded}` where its host should be; write the host before it, such as `HOST:{decoded}`"
        ));
    }
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if decoded.split('.').all(|part| !part.is_empty() && is_number(part)) {
        return Err(format!(
            "has the host `{decoded}`, which is no IPv4 address; correct it"
        ));
    }
    match names::dns_name(&decoded) {
        Ok(name) => Ok(UpstreamHost::Name(name.as_ref().into())),
        Err(why) => Err(match decoded.chars().find(|c| !may_stand_in_host(*c)) {
            Some(odd) => format!("has the host `{decoded}`, {}", why_odd(odd)),
            None => format!("has the host `{decoded}`, which {why}; correct it"),
        }),
    }
}

/// In a host of ASCII, or in one of other letters, which is judged by another rule.
fn may_stand_in_host(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.".contains(c)
}

/// What is wrong with a host for a character in it, and what to do.
fn why_odd(odd: char) -> String {
    let fix = match odd {
        ',' => "write one host, and a Mapping with `weight` for each of the others",
        '*' => "write one host, because a connection has one",
        ';' => "write a `:` before a port",
        _ => "correct it",
    };
    let shown = if odd.is_whitespace() {
        "white space".to_owned()
    } else {
        format!("`{}`", odd.escape_debug())
    };
    format!("in which {shown} stands, which no host name has; {fix}")
}

fn percent_decode(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let bad = || {
        "has a `%` in its host without two hexadecimal digits after it; write the character itself".to_owned()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16))
                .ok_or_else(bad)
        };
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| bad())
}

fn read_port(port: &str) -> Result<u16, String> {
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return match port.parse::<u16>() {
            Ok(0) => Err("has the port 0, on which nothing can listen; use one between 1 and 65535".into()),
            Ok(port) => Ok(port),
            Err(_) => Err(format!(
                "has the port {port}, which is out of range; use one between 1 and 65535"
            )),
        };
    }
    let fix = match port {
        "http" => "write 80, or the number that the Service gives to it",
        "https" => "write 443, or the number that the Service gives to it",
        _ => "use one between 1 and 65535",
    };
    Err(format!("has the port `{port}`, which is no number; {fix}"))
}

/// A host of a `service` in the namespace that it is meant in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed<'a> {
    /// With the Mapping's namespace added where that is due (C13).
    pub(crate) host: UpstreamHost,
    /// Namespace that a bare name is looked up in.
    pub(crate) namespace: &'a str,
    /// It was a bare name, so it means a Service whatever it looks like now.
    pub(crate) was_bare: bool,
}

/// Adds the Mapping's namespace to a bare name that is not in the gateway's own (C13, C14).
pub(crate) fn place<'a>(
    host: UpstreamHost,
    mapping_namespace: &'a str,
    gateway_namespace: &'a str,
    always_gateway_namespace: bool,
) -> Placed<'a> {
    let was_bare = matches!(&host, UpstreamHost::Name(name) if !name.contains('.') && &**name != "localhost");
    if always_gateway_namespace || mapping_namespace == gateway_namespace {
        return Placed {
            host,
            namespace: gateway_namespace,
            was_bare,
        };
    }
    let host = match host {
        UpstreamHost::Name(name) if was_bare => {
            UpstreamHost::Name(format!("{name}.{mapping_namespace}").into())
        }
        other => other,
    };
    Placed {
        host,
        namespace: mapping_namespace,
        was_bare,
    }
}

/// The domain of the cluster's own names.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// A name that means a Kubernetes Service by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterName<'a> {
    pub(crate) service: &'a str,
    pub(crate) namespace: &'a str,
    /// `svc.ns` may as well be a name of the world; only where such a Service exists it is not.
    pub(crate) certain: bool,
}

impl<'a> ClusterName<'a> {
    /// Takes `svc`, `svc.ns`, `svc.ns.svc` and `svc.ns.svc.cluster.local` apart, each with or
    /// without a trailing dot. A bare name is looked up in `namespace`.
    pub(crate) fn of(host: &'a str, namespace: &'a str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = host
            .strip_suffix(CLUSTER_DOMAIN)
            .and_then(|rest| rest.strip_suffix('.'))
            .filter(|rest| rest.ends_with(".svc"))
            .unwrap_or(host);
        let mut parts = name.split('.');
        let (service, second, third, more) = (parts.next()?, parts.next(), parts.next(), parts.next());
        match (second, third, more) {
            (None, _, _) if service == "localhost" => None,
            (None, _, _) => Some(Self {
                service,
                namespace,
                certain: true,
            }),
            (Some(namespace), None, _) => Some(Self {
                service,
                namespace,
                certain: false,
            }),
            (Some(namespace), Some("svc"), None) => Some(Self {
                service,
                namespace,
                certain: true,
            }),
            _ => None,
        }
    }

    /// Every form of the name, shortest first (row S13).
    pub(crate) fn forms(self) -> [String; 4] {
        let Self {
            service, namespace, ..
        } = self;
        [
            service.to_owned(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.{CLUSTER_DOMAIN}"),
        ]
    }
}

#[cfg(test)]
mod tests;
