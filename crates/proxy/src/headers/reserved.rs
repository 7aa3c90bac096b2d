//! Fields that not everybody may write, and those that nobody may take off.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    EXPECT, FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SERVER, SET_COOKIE,
    TRAILER, VIA, WWW_AUTHENTICATE,
};

use super::{X_ENVOY_SERVICE_TIME, X_REQUEST_ID, remove_hop_by_hop};

/// Headers by which a gateway tells an upstream, or is told by one it trusts, what to do. A client may
/// set none of them. Sorted. Envoy takes off all of them at an edge but three: of `x-envoy-attempt-count`,
/// `x-envoy-is-timeout-retry` and `x-envoy-auth-partial-body` it is the only author as well.
static OURS: [&str; 24] = [
    "x-envoy-attempt-count",
    "x-envoy-auth-partial-body",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];
/// What begins so is said by this gateway alone, to clients and to upstreams.
const OWN_PREFIX: &str = "x-nuncio-";
/// Who the client is by its certificate: only who terminated its TLS may say so.
static X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Takes off what must not stand in trailers: an upstream may put them beside the headers (RFC 9110
/// section 6.5.1), where a client would speak in the gateway's name, or take back what was matched.
pub(crate) fn sanitise_request_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers, |name| {
        let text = name.as_str();
        text.starts_with("x-forwarded-") || *name == X_REQUEST_ID || is_for_gateways(name) || is_of_head(name)
    });
}

/// The same on the way back.
pub(crate) fn sanitise_response_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers, |name| {
        *name == SERVER || is_of_gateway(name) || is_of_head(name)
    });
}

/// What a client may not say to an upstream.
pub(super) fn is_for_gateways(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-")
        && (OURS.binary_search(&text).is_ok()
            || *name == X_FORWARDED_CLIENT_CERT
            || text.starts_with(OWN_PREFIX))
}

/// What an upstream may not say to a client.
pub(super) fn is_of_gateway(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-") && (*name == X_ENVOY_SERVICE_TIME || text.starts_with(OWN_PREFIX))
}

/// Fields for framing, routing, authentication and control (RFC 9110 section 6.5.1).
fn is_of_head(name: &HeaderName) -> bool {
    matches!(
        *name,
        AUTHORIZATION
            | CACHE_CONTROL
            | CONTENT_ENCODING
            | CONTENT_LENGTH
            | CONTENT_RANGE
            | CONTENT_TYPE
            | COOKIE
            | EXPECT
            | FORWARDED
            | HOST
            | PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
            | RANGE
            | SET_COOKIE
            | TRAILER
            | WWW_AUTHENTICATE
    )
}

/// Fields that a `Connection` field may name without effect. It is for fields of one connection (RFC 9110
/// section 7.6.1), and would let a client take off what a proxy in front has said of it, or what a Mapping
/// has matched.
pub(super) fn is_end_to_end(name: &HeaderName) -> bool {
    let text = name.as_str();
    is_of_head(name)
        || *name == VIA
        || *name == X_REQUEST_ID
        || ["x-forwarded-", "x-envoy-", "x-real-", "x-auth", OWN_PREFIX]
            .iter()
            .any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HeaderValue};

    use super::super::{sanitise_request, sanitise_response};
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
    fn what_gateways_say_is_sorted_for_the_search() {
        assert!(OURS.is_sorted());
    }

    #[test]
    fn a_client_speaks_for_no_gateway() {
        let mut headers = map(&[("host", "a"), ("x-nuncio-reason", "expired"), ("x-kept", "1")]);
        OURS.iter().for_each(|name| {
            headers.insert(*name, HeaderValue::from_static("forged"));
        });
        sanitise_request(&mut headers, None);
        assert_eq!(headers, map(&[("host", "a"), ("x-kept", "1")]));
    }

    #[test]
    fn an_upstream_does_not_speak_for_the_gateway() {
        let mut headers = map(&[
            ("x-nuncio-reason", "expired"),
            ("x-envoy-upstream-service-time", "1"),
            ("x-envoy-overloaded", "true"),
            ("x-kept", "1"),
        ]);
        sanitise_response(&mut headers);
        assert_eq!(headers, map(&[("x-envoy-overloaded", "true"), ("x-kept", "1")]));
    }

    #[test]
    fn connection_takes_no_end_to_end_field_off() {
        let kept = [
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.0.2.1"),
        ];
        let mut headers = map(&kept);
        let listed = "authorization, Cookie, x-forwarded-for, x-forwarded-proto, x-real-ip, host, x-mine";
        headers.insert(CONNECTION, HeaderValue::from_static(listed));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        sanitise_request(&mut headers, None);
        assert_eq!(headers, map(&kept));
    }

    #[test]
    fn trailers_hold_nothing_that_a_head_decides_by() {
        let mut request = map(&[
            ("x-checksum", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-request-id", "mine"),
            ("x-envoy-internal", "true"),
            ("x-nuncio-reason", "expired"),
            ("authorization", "Basic x"),
            ("host", "b"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-checksum-2"),
            ("x-checksum-2", "1"),
        ]);
        sanitise_request_trailers(&mut request);
        assert_eq!(request, map(&[("x-checksum", "1")]));
        let mut response = map(&[
            ("grpc-status", "0"),
            ("x-nuncio-reason", "expired"),
            ("server", "x"),
            ("set-cookie", "a=b"),
            ("x-envoy-upstream-service-time", "1"),
        ]);
        sanitise_response_trailers(&mut response);
        assert_eq!(response, map(&[("grpc-status", "0")]));
    }
}
