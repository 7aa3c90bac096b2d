//! Logins that hold for a connection instead of a request (RFC 4559 section 6).

use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};

/// Whether a request authenticates the connection that it goes on.
pub(crate) fn logs_in(headers: &HeaderMap) -> bool {
    authenticates_connection(headers, &[AUTHORIZATION, PROXY_AUTHORIZATION])
}

/// Whether an answer asks for that.
pub(crate) fn asks_to_log_in<B>(response: &Response<B>) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    ) && authenticates_connection(response.headers(), &[WWW_AUTHENTICATE, PROXY_AUTHENTICATE])
}

/// Whether one of these fields names a scheme that authenticates a connection and not a request. Several
/// challenges may stand in one field, and what stands in quotes counts as well: that binds too much at worst.
fn authenticates_connection(headers: &HeaderMap, fields: &[HeaderName]) -> bool {
    let present = fields.iter().filter(|name| headers.contains_key(*name));
    let values = present.flat_map(|name| headers.get_all(name));
    let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    parts
        .filter_map(|part| {
            part.trim_ascii_start()
                .split(|byte| matches!(byte, b' ' | b'\t'))
                .next()
        })
        .any(|scheme| scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).expect("a header value"),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn schemes_that_authenticate_a_connection_are_found() {
        for value in [
            "NTLM TlRMTVNT",
            "negotiate YII=",
            "Basic realm=\"a, b\", NTLM",
            "Negotiate",
        ] {
            let asks = Response::builder().status(401).header(WWW_AUTHENTICATE, value);
            assert!(asks_to_log_in(&asks.body(()).unwrap_or_default()), "{value}");
            let proxy = Response::builder().status(407).header(PROXY_AUTHENTICATE, value);
            assert!(asks_to_log_in(&proxy.body(()).unwrap_or_default()), "{value}");
            assert!(logs_in(&map(&[("authorization", value)])), "{value}");
            assert!(logs_in(&map(&[("proxy-authorization", value)])), "{value}");
        }
        for value in ["Basic TlRMTQ==", "Bearer ntlm", "NTLMv3 x", ""] {
            assert!(!logs_in(&map(&[("authorization", value)])), "{value}");
        }
        let two = map(&[("authorization", "Basic x"), ("authorization", "NTLM x")]);
        assert!(logs_in(&two));
        let fine = Response::builder().header(WWW_AUTHENTICATE, "NTLM");
        assert!(!asks_to_log_in(&fine.body(()).unwrap_or_default()));
    }
}
