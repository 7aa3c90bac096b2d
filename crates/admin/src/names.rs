//! The names that the interface answers to. A page of another site can make a browser ask under that
//! site's name for an address of this machine (DNS rebinding) and would then read the answer; what its own
//! scripts ask for across origins carries an `Origin`.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri, Version};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) status: StatusCode,
    pub(crate) message: &'static str,
}

const NO_HOST: Foreign = Foreign {
    status: StatusCode::BAD_REQUEST,
    message: "the request has no Host header",
};
const OTHER_HOST: Foreign = Foreign {
    status: StatusCode::FORBIDDEN,
    message: "the admin interface does not answer to this host; ask for its address or for localhost, or name \
              the host with --admin-host",
};
const OTHER_ORIGIN: Foreign = Foreign {
    status: StatusCode::FORBIDDEN,
    message: "the admin interface is not for pages of other origins",
};

/// Refuses requests that ask for another host, or come from another origin. `names` are those of
/// `--admin-host`, in lower case.
pub(crate) fn check(
    names: &[String],
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Foreign> {
    let mut hosts = headers.get_all(HOST).iter().map(|host| host.to_str().ok());
    let asked = uri.authority().map(|authority| Some(authority.as_str()));
    let mut own = None;
    for host in asked.into_iter().chain(&mut hosts) {
        let host = host.filter(|host| is_own(names, host)).ok_or(OTHER_HOST)?;
        own.get_or_insert(host);
    }
    if own.is_none() && version >= Version::HTTP_11 {
        return Err(NO_HOST);
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let same = origins.all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin
            .zip(own)
            .is_some_and(|((_, origin), own)| origin.eq_ignore_ascii_case(own))
    });
    if same { Ok(()) } else { Err(OTHER_ORIGIN) }
}

/// Whether a host, with or without a port, is an address, `localhost`, or one of the names.
fn is_own(names: &[String], host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_port = port.is_empty() || port.starts_with(':');
            return is_port && is_number(port) && address.parse::<Ipv6Addr>().is_ok();
        }
        None => host
            .split_once(':')
            .map_or((host, ""), |(name, port)| (name, port)),
    };
    if !is_number(port) {
        return false;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_number(port: &str) -> bool {
    port.trim_start_matches(':')
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(version: Version, uri: &'static str, headers: &[(&'static str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let names = ["gateway-admin.ops".to_owned()];
        match check(&names, version, &Uri::from_static(uri), &map) {
            Ok(()) => 200,
            Err(foreign) => foreign.status.as_u16(),
        }
    }

    #[test]
    fn only_own_hosts_are_answered() {
        for (host, status) in [
            ("127.0.0.1", 200),
            ("10.1.2.3:8877", 200),
            ("[::1]:8877", 200),
            ("[::1]", 200),
            ("localhost", 200),
            ("LocalHost:80", 200),
            ("localhost.", 200),
            ("Gateway-Admin.ops:8877", 200),
            ("evil.example", 403),
            ("evil.example:8877", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost.evil.example", 403),
            ("evil.localhost", 403),
            ("localhost@evil.example", 403),
            ("evil.example@127.0.0.1", 403),
            ("127.0.0.1:80.evil.example", 403),
            ("[::1].evil.example", 403),
            ("::1", 403),
            ("2130706433", 403),
            ("0x7f.1", 403),
            ("", 403),
        ] {
            assert_eq!(asked(Version::HTTP_11, "/", &[("host", host)]), status, "{host}");
        }
    }

    #[test]
    fn each_host_of_a_request_counts() {
        let both = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(asked(Version::HTTP_11, "/", &both), 403);
        let own = [("host", "localhost")];
        assert_eq!(asked(Version::HTTP_11, "http://evil.example/", &own), 403);
        assert_eq!(asked(Version::HTTP_11, "http://127.0.0.1/", &own), 200);
        assert_eq!(asked(Version::HTTP_11, "/", &[]), 400);
        assert_eq!(asked(Version::HTTP_10, "/", &[]), 200);
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for (origin, status) in [
            ("http://localhost:8877", 200),
            ("https://LOCALHOST:8877", 200),
            ("http://localhost:3000", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "localhost:8877"), ("origin", origin)];
            assert_eq!(asked(Version::HTTP_11, "/", &headers), status, "{origin}");
        }
    }
}
