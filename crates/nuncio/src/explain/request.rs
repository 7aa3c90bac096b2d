//! The request that is asked about, as it would arrive.

use http::header::{HOST, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Method, Uri};

/// A request as a client would send it for a URL.
#[derive(Debug)]
pub(super) struct Request {
    /// As the user wrote it.
    pub(super) url: String,
    /// The method.
    pub(super) method: Method,
    /// By https.
    pub(super) secure: bool,
    /// The port, where the URL names one.
    pub(super) port: Option<u16>,
    /// What the client puts into `Host`, lower case: with the port unless it is the scheme's own.
    pub(super) authority: String,
    /// As the URL has it.
    pub(super) path: String,
    /// Without `?`.
    pub(super) query: Option<String>,
    /// All headers, `Host` included.
    pub(super) headers: HeaderMap,
}

impl Request {
    /// Reads what a user typed. The error is one sentence.
    pub(super) fn read(url: &str, method: &str, headers: &[String]) -> Result<Self, String> {
        let not_a_url = || format!("{url} is no URL; write http://HOST[:PORT]/PATH or https://...");
        let (without_fragment, _) = url.split_once('#').unwrap_or((url, ""));
        let uri: Uri = without_fragment.parse().map_err(|_| not_a_url())?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(not_a_url());
        };
        let secure = *scheme == Scheme::HTTPS;
        if !secure && *scheme != Scheme::HTTP {
            return Err(not_a_url());
        }
        let own_port = if secure { 443 } else { 80 };
        let host = authority.host().to_ascii_lowercase();
        let named = match authority.port_u16() {
            Some(port) if port != own_port => format!("{host}:{port}"),
            _ => host,
        };
        let headers = read_headers(headers, &named)?;
        let authority = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        Ok(Self {
            url: url.to_owned(),
            method: method
                .parse()
                .map_err(|_| format!("{method} is no method; write GET, POST, ..."))?,
            secure,
            port: uri.authority().and_then(http::uri::Authority::port_u16),
            authority: authority.to_ascii_lowercase(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers,
        })
    }
}

fn read_headers(lines: &[String], authority: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || format!("{line:?} is no header; write 'name: value'");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        if name == HOST && headers.contains_key(HOST) {
            return Err("Host is given twice; the gateway refuses such a request".to_owned());
        }
        headers.append(name, value);
    }
    if !headers.contains_key(HOST) {
        let value = authority
            .parse()
            .map_err(|_| format!("{authority} cannot be a Host header; correct the URL"))?;
        headers.insert(HOST, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_what_a_client_sends() {
        let table = [
            ("http://A.test/x?y=1#z", false, None, "a.test", "/x", Some("y=1")),
            ("https://a.test", true, None, "a.test", "/", None),
            ("http://a.test:80/", false, Some(80), "a.test", "/", None),
            ("https://a.test:443/", true, Some(443), "a.test", "/", None),
            (
                "https://a.test:8443/b/../c",
                true,
                Some(8443),
                "a.test:8443",
                "/b/../c",
                None,
            ),
            ("http://[::1]:8080/", false, Some(8080), "[::1]:8080", "/", None),
        ];
        for (url, secure, port, authority, path, query) in table {
            let request = Request::read(url, "GET", &[]).unwrap();
            let seen = (
                request.secure,
                request.port,
                &*request.authority,
                &*request.path,
                request.query.as_deref(),
            );
            assert_eq!(seen, (secure, port, authority, path, query), "{url}");
        }
    }

    #[test]
    fn a_host_header_wins_over_the_url() {
        let headers = ["host: B.test:9".to_owned(), "x-a: 1".to_owned()];
        let request = Request::read("http://127.0.0.1:8080/", "POST", &headers).unwrap();
        assert_eq!((&*request.authority, request.port), ("b.test:9", Some(8080)));
        assert_eq!(request.headers["x-a"], "1");
    }

    #[test]
    fn what_cannot_be_read_says_what_to_write() {
        let no_url = |url: &str| format!("{url} is no URL; write http://HOST[:PORT]/PATH or https://...");
        for url in ["a.test/x", "ftp://a.test/", "http://", "/x", "http://a b/"] {
            assert_eq!(Request::read(url, "GET", &[]).unwrap_err(), no_url(url));
        }
        let error = Request::read("http://a.test/", "GET", &["x".to_owned()]).unwrap_err();
        assert_eq!(error, "\"x\" is no header; write 'name: value'");
        let error = Request::read("http://a.test/", "G T", &[]).unwrap_err();
        assert_eq!(error, "G T is no method; write GET, POST, ...");
        let twice = ["Host: a".to_owned(), "host: b".to_owned()];
        assert!(Request::read("http://a.test/", "GET", &twice).is_err());
    }
}
