//! What the gateway does to headers on their way, besides what a Mapping asks for.

mod reserved;

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, Method, Version};
use nuncio_model::{HeaderEdits, Settings};
use uuid::Builder;

use self::reserved::{is_end_to_end, is_for_gateways, is_of_gateway};
pub(crate) use self::reserved::{sanitise_request_trailers, sanitise_response_trailers};

/// Of the trusted client and those behind it.
pub(crate) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) static X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
pub(crate) static X_ENVOY_EXPECTED_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(crate) static X_ENVOY_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
static X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Where a request came from.
pub(crate) struct Origin<'a> {
    /// The address at the other end of the connection.
    pub(crate) peer: IpAddr,
    /// The same, as a header value.
    pub(crate) peer_value: &'a HeaderValue,
    /// How many proxies in front are trusted.
    pub(crate) l7_depth: u32,
}

/// Takes off what concerns this connection only (RFC 9110 section 7.6.1) and what only the gateway
/// may say. `upgrade` keeps the two headers that ask for an upgrade.
pub(crate) fn sanitise_request(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let trailers = headers
        .get(TE)
        .is_some_and(|te| names(te).any(|name| name.eq_ignore_ascii_case("trailers")));
    remove_hop_by_hop(headers, is_for_gateways);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        set_upgrade(headers, protocol.clone());
    }
}

/// Says that this connection is to speak another protocol from now on.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Takes off what concerned the upstream's connection only, and what only the gateway may say to a client.
pub(crate) fn sanitise_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, is_of_gateway);
}

fn remove_hop_by_hop(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    // One pass over what is there is cheaper than asking for each name that might be, and the two that most
    // messages have need no list.
    let mut doomed: Vec<HeaderName> = Vec::new();
    let (mut connection, mut coding) = (false, false);
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                connection = true;
                let listed = names(value).filter(|name| !is_plain_option(name));
                let listed = listed.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
                doomed.extend(listed.filter(|name| !is_end_to_end(name)));
            }
            "transfer-encoding" => coding = true,
            "te" | "upgrade" | "keep-alive" | "proxy-connection" | "http2-settings" => {
                doomed.push(name.clone());
            }
            _ if also(name) => doomed.push(name.clone()),
            _ => {}
        }
    }
    if connection {
        headers.remove(CONNECTION);
    }
    if coding {
        headers.remove(TRANSFER_ENCODING);
        // RFC 9112 section 6.3: the coding overrides the length, which must not go on either.
        headers.remove(CONTENT_LENGTH);
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// Takes off what a message of HTTP/2 must not have (RFC 9113 section 8.2.2). The peer's own are gone by now; those of
/// a Mapping or of the gateway may be there.
pub(crate) fn remove_connection_fields(headers: &mut HeaderMap) {
    const OF_A_CONNECTION: [&str; 5] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ];
    // One pass is cheaper than asking for each.
    if headers
        .keys()
        .any(|name| OF_A_CONNECTION.contains(&name.as_str()))
    {
        for name in OF_A_CONNECTION {
            headers.remove(name);
        }
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// Options of a connection that name no field, or one that is taken off in any case.
fn is_plain_option(option: &str) -> bool {
    option.eq_ignore_ascii_case("keep-alive") || option.eq_ignore_ascii_case("close")
}

/// The elements of a list (RFC 9110 section 5.6.1); none where it is not of visible ASCII.
pub(crate) fn names(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Joins cookie fields into one with `; `. A client of HTTP/2 may send its cookie in crumbs, which routes
/// and upstreams must see as one field (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(mut joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        joined.set_sensitive(first.is_sensitive());
        headers.insert(COOKIE, joined);
    }
}

/// Most fields in a header section or a trailer section, of whatever version: what hyper takes of HTTP/1.1
/// unless set otherwise, and Envoy of both.
pub(crate) const MOST_FIELDS: usize = 100;

/// Whether the client waits for 100 before it sends its content (RFC 9110 section 10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// How a header or trailer section is larger than may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Fields(usize),
    Bytes {
        found: usize,
        most: usize,
        largest: HeaderName,
    },
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fields(found) => write!(f, "{found} fields, at most {MOST_FIELDS} are allowed"),
            Self::Bytes { found, most, largest } => write!(
                f,
                "{found} bytes, at most {most} are allowed; the largest field is {largest}"
            ),
        }
    }
}

/// Whether a section may not pass, beside a request target of so many bytes. Its bytes are those that HTTP/1.1 writes, so that the same fields are as
/// large in either version.
pub(crate) fn excess(target: usize, headers: &HeaderMap, most: usize) -> Option<Excess> {
    if headers.len() > MOST_FIELDS {
        return Some(Excess::Fields(headers.len()));
    }
    let found = target + section_length(headers);
    if found <= most {
        return None;
    }
    let largest = headers.iter().max_by_key(|line| line_length(*line))?.0.clone();
    Some(Excess::Bytes { found, most, largest })
}

/// The bytes of a section as HTTP/1.1 writes it.
pub(crate) fn section_length(headers: &HeaderMap) -> usize {
    headers.iter().map(line_length).sum()
}

fn line_length((name, value): (&HeaderName, &HeaderValue)) -> usize {
    const COLON_AND_LINE_END: usize = 4;
    name.as_str().len() + value.len() + COLON_AND_LINE_END
}

/// The limit that h2 is given where sections of `most` bytes may pass. h2 ends the whole connection over a
/// section in more CONTINUATION frames than its limit needs, and leaves out the rest of trailers beyond it
/// without a word. With a wider limit there, [`excess`] refuses what is too large, and other streams go on.
pub(crate) fn http2_list_limit(most: usize) -> u32 {
    const ROOM: usize = 4;
    u32::try_from(most.saturating_mul(ROOM)).unwrap_or(u32::MAX)
}

/// How long a request's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The request ends with its head.
    None,
    Bytes(u64),
    /// Known only when it ends.
    Streamed,
}

/// Writes the fields that say how long the content is, from what is known of it rather than from what the
/// client's fields said: so they are there once, and right, on whatever version the request goes on.
pub(crate) fn frame_request(headers: &mut HeaderMap, method: &Method, content: Content, http2: bool) {
    // What was written for an attempt on another version.
    headers.remove(TRANSFER_ENCODING);
    let length = match content {
        // RFC 9110 section 8.6 asks for the field where the method expects content, and servers answer 411
        // without it. HTTP/2 has END_STREAM, so there the field goes on only where the client sent it.
        Content::None if headers.contains_key(CONTENT_LENGTH) => Some(0),
        Content::None => (!http2 && expects_content(method)).then_some(0),
        Content::Bytes(length) => Some(length),
        Content::Streamed => {
            headers.remove(CONTENT_LENGTH);
            // hyper chooses the coding itself only for methods that usually have content.
            if !http2 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            return;
        }
    };
    if let Some(length) = length
        && !says_once(headers, length)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The methods that Envoy counts among those without content have none; any other expects some.
fn expects_content(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT
    )
}

fn says_once(headers: &HeaderMap, length: u64) -> bool {
    let mut said = headers.get_all(CONTENT_LENGTH).iter();
    let first = said.next().and_then(|value| value.to_str().ok());
    said.next().is_none() && first.and_then(|text| text.parse().ok()) == Some(length)
}

/// Adds what tells the upstream about the client and the request.
pub(crate) fn forwarded(
    headers: &mut HeaderMap,
    origin: &Origin<'_>,
    scheme: &'static str,
    settings: &Settings,
) {
    let trusted = trusted_client(headers, origin);
    append_forwarded_for(headers, origin);
    if origin.l7_depth == 0 || !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
    }
    if !settings.preserve_external_request_id || !headers.contains_key(&X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID.clone(), request_id());
    }
    if settings.suppress_envoy_headers {
        return;
    }
    // As in Envoy today, no address counts as internal by itself.
    if trusted == origin.peer {
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS.clone(), origin.peer_value.clone());
    } else if let Ok(value) = HeaderValue::from_str(&trusted.to_string()) {
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS.clone(), value);
    }
}

/// The address that `l7_depth` trusted proxies saw: that many entries from the end of
/// `x-forwarded-for`; the peer itself where there are none.
fn trusted_client(headers: &HeaderMap, origin: &Origin<'_>) -> IpAddr {
    if origin.l7_depth == 0 {
        return origin.peer;
    }
    let depth = usize::try_from(origin.l7_depth).unwrap_or(usize::MAX);
    let lines = headers.get_all(&X_FORWARDED_FOR);
    let addresses: Vec<&str> = lines.iter().flat_map(names).collect();
    let at = addresses.len().checked_sub(depth);
    at.and_then(|at| addresses[at].parse().ok())
        .unwrap_or(origin.peer)
}

fn append_forwarded_for(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let Some(before) = headers.get(&X_FORWARDED_FOR) else {
        headers.insert(X_FORWARDED_FOR.clone(), origin.peer_value.clone());
        return;
    };
    let mut joined = before.as_bytes().to_vec();
    for line in headers.get_all(&X_FORWARDED_FOR).iter().skip(1) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    joined.extend_from_slice(b", ");
    joined.extend_from_slice(origin.peer_value.as_bytes());
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(X_FORWARDED_FOR.clone(), joined);
    }
}

/// A number as a value. Most upstreams answer within ten milliseconds, which takes no allocation.
pub(crate) fn number(number: u64) -> HeaderValue {
    const DIGITS: &str = "0123456789";
    match usize::try_from(number) {
        Ok(digit @ 0..10) => HeaderValue::from_static(&DIGITS[digit..=digit]),
        _ => HeaderValue::from(number),
    }
}

/// A random UUID. It names a request, it guards nothing: a fast generator will do.
fn request_id() -> HeaderValue {
    let id = Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; 36];
    let text: &str = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// What a Mapping adds and removes.
pub(crate) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for addition in &edits.add {
        let (name, value) = (addition.name.clone(), addition.value.clone());
        if addition.append {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
    for name in &edits.remove {
        headers.remove(name);
    }
}

/// The protocol that a request wants to change to, if it asks properly.
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(names)
        .any(|name| name.eq_ignore_ascii_case("upgrade"));
    asked.then_some(protocol)
}

/// Whether a request is gRPC, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The protocol as logs write it.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
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

    fn origin<'a>(peer: &str, peer_value: &'a HeaderValue, l7_depth: u32) -> Origin<'a> {
        Origin {
            peer: peer.parse().expect("an address"),
            peer_value,
            l7_depth,
        }
    }

    #[test]
    fn http2_has_no_fields_of_a_connection() {
        let names = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ];
        for name in names {
            let mut headers = map(&[(name, "x"), ("te", "trailers"), ("x", "1")]);
            remove_connection_fields(&mut headers);
            assert_eq!(headers, map(&[("te", "trailers"), ("x", "1")]), "{name}");
        }
        let mut headers = map(&[("te", "gzip")]);
        remove_connection_fields(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn hop_by_hop_headers_never_cross() {
        let mut headers = map(&[
            ("connection", "close, x-secret"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-secret", "1"),
            ("x-envoy-original-path", "/forged"),
            ("host", "a.test"),
            ("x-kept", "1"),
        ]);
        sanitise_request(&mut headers, None);
        assert_eq!(
            headers,
            map(&[("host", "a.test"), ("x-kept", "1"), ("te", "trailers")])
        );
    }

    #[test]
    fn a_client_cannot_have_the_host_taken_off() {
        let mut headers = map(&[("connection", "host"), ("host", "a.test")]);
        sanitise_request(&mut headers, None);
        assert_eq!(headers, map(&[("host", "a.test")]));
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = map(&[
            ("cookie", "a=b"),
            ("x-other", "1"),
            ("cookie", "c=d"),
            ("cookie", "e"),
        ]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=b; c=d; e"), ("x-other", "1")]));
        let mut headers = map(&[("cookie", "a=b")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=b")]));
    }

    #[test]
    fn a_section_has_a_most_in_fields_and_in_bytes() {
        let long = map(&[("x-long", "0123456789")]);
        assert_eq!(excess(0, &long, 20), None);
        let largest = HeaderName::from_static("x-long");
        let (found, most) = (20, 19);
        assert_eq!(
            excess(0, &long, most),
            Some(Excess::Bytes { found, most, largest })
        );
        let many = vec![("x-a", "1"); MOST_FIELDS];
        assert_eq!(excess(0, &map(&many), usize::MAX), None);
        let more = vec![("x-a", "1"); MOST_FIELDS + 1];
        assert_eq!(excess(0, &map(&more), usize::MAX), Some(Excess::Fields(101)));
    }

    #[test]
    fn a_request_is_framed_by_its_content() {
        let length = |text: &str| map(&[("content-length", text)]);
        let chunked = map(&[("transfer-encoding", "chunked")]);
        let twice = map(&[("content-length", "3"), ("content-length", "3")]);
        let none = HeaderMap::new();
        let cases = [
            (Method::POST, Content::None, false, &none, length("0")),
            (Method::OPTIONS, Content::None, false, &none, length("0")),
            (Method::GET, Content::None, false, &none, none.clone()),
            (Method::DELETE, Content::None, false, &none, none.clone()),
            (Method::POST, Content::None, true, &none, none.clone()),
            (Method::GET, Content::None, true, &length("0"), length("0")),
            (Method::GET, Content::Streamed, false, &none, chunked.clone()),
            (Method::HEAD, Content::Streamed, false, &none, chunked.clone()),
            (Method::GET, Content::Streamed, true, &chunked, none.clone()),
            (Method::POST, Content::Bytes(3), false, &twice, length("3")),
            (Method::POST, Content::Bytes(3), true, &twice, length("3")),
            (
                Method::POST,
                Content::Bytes(3),
                false,
                &length("03"),
                length("03"),
            ),
        ];
        for (method, content, http2, before, after) in cases {
            let mut headers = before.clone();
            frame_request(&mut headers, &method, content, http2);
            assert_eq!(headers, after, "{method} {content:?} {http2}");
        }
    }

    #[test]
    fn the_peer_is_appended_to_x_forwarded_for() {
        let value = HeaderValue::from_static("203.0.113.9");
        let mut headers = map(&[
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "198.51.100.2"),
        ]);
        forwarded(
            &mut headers,
            &origin("203.0.113.9", &value, 0),
            "http",
            &Settings::default(),
        );
        assert_eq!(
            headers["x-forwarded-for"],
            "198.51.100.1, 198.51.100.2, 203.0.113.9"
        );
        assert_eq!(headers["x-envoy-external-address"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn trusted_proxies_are_believed() {
        let value = HeaderValue::from_static("10.0.0.1");
        let mut headers = map(&[
            ("x-forwarded-for", "192.0.2.66, 198.51.100.1"),
            ("x-forwarded-proto", "https"),
        ]);
        forwarded(
            &mut headers,
            &origin("10.0.0.1", &value, 1),
            "http",
            &Settings::default(),
        );
        assert_eq!(headers["x-envoy-external-address"], "198.51.100.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn an_untrusted_client_cannot_claim_https() {
        let value = HeaderValue::from_static("203.0.113.9");
        let mut headers = map(&[("x-forwarded-proto", "https")]);
        forwarded(
            &mut headers,
            &origin("203.0.113.9", &value, 0),
            "http",
            &Settings::default(),
        );
        assert_eq!(headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn a_request_id_is_replaced_unless_preserved() {
        let value = HeaderValue::from_static("203.0.113.9");
        let mut headers = map(&[("x-request-id", "mine")]);
        forwarded(
            &mut headers,
            &origin("203.0.113.9", &value, 0),
            "http",
            &Settings::default(),
        );
        assert_eq!(headers["x-request-id"].len(), 36);
        let settings = Settings {
            preserve_external_request_id: true,
            ..Settings::default()
        };
        let mut headers = map(&[("x-request-id", "mine")]);
        forwarded(&mut headers, &origin("203.0.113.9", &value, 0), "http", &settings);
        assert_eq!(headers["x-request-id"], "mine");
    }
}
