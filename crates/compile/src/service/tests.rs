use super::*;

fn name(text: &str) -> UpstreamHost {
    UpstreamHost::Name(text.into())
}

fn ip(text: &str) -> UpstreamHost {
    UpstreamHost::Ip(text.parse().unwrap())
}

/// C1 to C5, C7.
#[test]
fn what_a_service_can_be() {
    use Scheme::{Http, Https};
    for (text, scheme, host, port) in [
        ("svc", None, name("svc"), None),
        ("svc:8080", None, name("svc"), Some(8080)),
        ("http://svc", Some(Http), name("svc"), None),
        ("https://svc", Some(Https), name("svc"), None),
        ("HTTPS://SVC.Ns", Some(Https), name("svc.ns"), None),
        ("hTTp://svc:80", Some(Http), name("svc"), Some(80)),
        ("https://svc/", Some(Https), name("svc"), None),
        ("https://svc:", Some(Https), name("svc"), None),
        ("https://svc:65535", Some(Https), name("svc"), Some(65535)),
        ("https://a.test.", Some(Https), name("a.test."), None),
        (
            "https://bücher.test",
            Some(Https),
            name("xn--bcher-kva.test"),
            None,
        ),
        ("b%75cher.test", None, name("bucher.test"), None),
        ("10.0.0.5:8443", None, ip("10.0.0.5"), Some(8443)),
        (
            "https://[2001:db8::1]:8443",
            Some(Https),
            ip("2001:db8::1"),
            Some(8443),
        ),
        ("[::1]", None, ip("::1"), None),
    ] {
        let service = Service::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (service.scheme, service.host, service.port),
            (scheme, host, port),
            "{text}"
        );
        assert!(service.dropped.is_empty(), "{text}");
    }
}

#[test]
fn d19_the_rest_of_a_url_is_dropped_and_told() {
    for (text, port, dropped) in [
        ("https://svc/path?x", None, vec!["path"]),
        ("https://svc?x", None, vec!["query"]),
        ("https://svc:81#x", Some(81), vec!["fragment"]),
        ("https://me:secret@svc/a", None, vec!["path", "user"]),
    ] {
        let service = Service::parse(text).unwrap();
        assert_eq!(
            (service.host, service.port, service.dropped),
            (name("svc"), port, dropped),
            "{text}"
        );
    }
}

#[test]
fn d20_what_a_service_cannot_be() {
    for (text, says) in [
        ("", "has no host"),
        ("https://", "has no host"),
        (":80", "has no host"),
        ("https://:80", "has no host"),
        ("https://svc:99999", "out of range"),
        ("svc:80.invalid", "no number"),
        ("http://svc.ns:80.invalid", "no number; use one"),
        ("svc:-1", "no number"),
        ("https://svc:0", "port 0"),
        ("svc:00", "port 0"),
        ("https://a.ns:https", "`https`, which is no number; write 443"),
        ("a.ns:http", "`http`, which is no number; write 80"),
        ("https://svc:443:8443", "more than one port"),
        ("'https://svc'", "write `https://svc`"),
        ("\"svc\"", "write `svc`"),
        ("\u{201c}https://svc\u{201d}", "write `https://svc`"),
        (
            "https://a,https://b",
            "`,` stands, which no host name has; write one host, and a Mapping",
        ),
        ("https://svc;8443", "write a `:` before a port"),
        ("https://*.ns", "write one host"),
        ("https://10.0.0.256", "no IPv4 address"),
        ("10.0.0.1.5:80", "no IPv4 address"),
        ("8080", "such as `HOST:8080`"),
        (
            "unix:///var/run/x.sock",
            "over TCP only; write [scheme://]host[:port]",
        ),
        ("2001:db8::1", "brackets"),
        ("[2001:db8::1", "without its"),
        ("[::1]x", "between"),
        ("[fe80::1%25eth0]:80", "zone"),
        ("[svc]:80", "without them"),
        ("svc%2", "hexadecimal"),
        ("svc%zz", "hexadecimal"),
        ("a b", "white space stands"),
        ("a..b", "empty part"),
    ] {
        match Service::parse(text) {
            Err(message) => assert!(message.contains(says), "{text}: {message}"),
            Ok(service) => panic!("{text}: {service:?}"),
        }
    }
}

/// Read by the letter, most of these send cleartext to a host that nobody meant; beside each, what was meant.
const SLIPS: &[(&str, &str)] = &[
    ("https:/svc", "`https://svc`"),
    ("https//svc", "`https://svc`"),
    ("https/svc", "`https://svc`"),
    ("https:svc", "`https://svc`"),
    ("https:svc:8443", "`https://svc:8443`"),
    ("https:/svc:443/path", "`https://svc:443`"),
    ("https;//svc", "`https://svc`"),
    ("https,//svc", "`https://svc`"),
    ("https.//svc", "`https://svc`"),
    ("https-//svc", "`https://svc`"),
    ("https?//svc", "`https://svc`"),
    ("https#//svc", "`https://svc`"),
    ("https=svc", "`https://svc`"),
    ("https svc", "`https://svc`"),
    ("https@svc", "`https://svc`"),
    ("https:@svc", "`https://svc`"),
    ("https:\\\\svc", "`https://svc`"),
    ("https\\svc", "`https://svc`"),
    ("https:/\\svc", "`https://svc`"),
    ("https::/svc", "`https://svc`"),
    ("https:10.0.0.1", "`https://10.0.0.1`"),
    ("https:/[::1]:8443", "`https://[::1]:8443`"),
    ("HTTPS:/svc", "`https://svc`"),
    ("Https//svc", "`https://svc`"),
    ("HTTP:svc", "`http://svc`"),
    ("http:/svc", "`http://svc`"),
    ("http/svc", "`http://svc`"),
    ("htps:/svc", "`https://svc`"),
    ("htps//svc", "`https://svc`"),
    ("htps/svc", "`https://svc`"),
    ("htttpss/svc", "`https://svc`"),
    ("htpps/svc", "`https://svc`"),
    ("tls:/svc", "`https://svc`"),
    ("tls/svc", "`https://svc`"),
    ("wss//svc", "`https://svc`"),
    ("grpcs:svc", "`https://svc`"),
    ("foo:/svc", "`https://svc` or `http://svc`"),
    ("//svc", "`https://svc` or `http://svc`"),
    ("//svc:443", "`https://svc:443`"),
    ("/svc", "`https://svc`"),
    ("://svc", "`https://svc`"),
    (":/svc", "`https://svc`"),
    ("https:///svc", "`https://svc`"),
    ("https:////svc", "`https://svc`"),
    ("https://\\svc", "`https://svc`"),
    ("http:///svc", "`http://svc`"),
    ("https://https://svc", "`https://svc`"),
    ("http://https://svc", "`https://svc`"),
    ("https://http://svc", "`https://svc`"),
    ("http://https:/svc", "`https://svc`"),
    ("http://https/svc", "`https://svc`"),
    ("http://htps://svc", "`https://svc`"),
    ("http://http://svc", "`http://svc`"),
    ("https", "`https://HOST`"),
    ("HTTPS", "`https://HOST`"),
    ("https:", "`https://HOST`"),
    ("https:/", "`https://HOST`"),
    ("https/", "`https://HOST`"),
    ("https.", "`https://HOST`"),
    ("https:8443", "`https://HOST:8443`"),
    ("https:8443/path", "`https://HOST:8443`"),
    ("https:8443", "`https.NAMESPACE:8443`"),
    ("https://https", "`https://HOST`"),
    ("https://https:443", "`https.NAMESPACE:443`"),
    ("http://https:443", "`https://HOST:443`"),
    ("https://http", "`https://HOST`"),
    ("http", "`http://HOST`"),
    ("http:80", "`http://HOST:80`"),
    ("tls:8443", "`https://HOST:8443`"),
    ("http://tls:8443", "`https://HOST:8443`"),
    ("grpc:9000", "`grpc.NAMESPACE:9000`"),
    ("tcp", "`http://HOST`"),
    ("%68ttps", "`https://HOST`"),
    ("\u{ff48}ttps:8443", "`https://HOST:8443`"),
    ("\u{ff48}\u{ff54}\u{ff54}\u{ff50}\u{ff53}://svc", "`https://svc`"),
    (" https://svc", "`https://svc`"),
    ("https://svc ", "`https://svc`"),
    ("https://svc\n", "`https://svc`"),
    ("\thttps:/svc", "`https:/svc`"),
    ("https ://svc", "`https://svc`"),
    ("https: //svc", "`https://svc`"),
    ("\"https://svc", "`https://svc`"),
    ("svc:https://svc", "`https://svc`"),
    ("1https://svc", "`https://svc`"),
    ("htps://svc", "unknown scheme `htps`; write `https://svc`"),
    ("htp://svc", "unknown scheme `htp`; write `http://svc`"),
    (
        "tls://svc:8443/x",
        "unknown scheme `tls`; write `https://svc:8443`",
    ),
    ("grpcs://svc", "`https://svc` with `grpc: true`"),
    ("grpc://svc", "`http://svc` with `grpc: true`"),
    ("wss://svc", "`https://svc` with `allow_upgrade: [websocket]`"),
    ("ws://svc", "`http://svc` with `allow_upgrade: [websocket]`"),
    ("ftp://svc", "unknown scheme `ftp`"),
    ("tcp://svc", "unknown scheme `tcp`"),
    ("foo://svc", "`https://svc` or `http://svc`"),
    ("htps://https://svc", "`https://svc`"),
];

#[test]
fn a_slip_is_refused_with_the_probable_spelling() {
    for (text, spelling) in SLIPS {
        match Service::parse(text) {
            Err(message) => assert!(message.contains(spelling), "{text}: {message}"),
            Ok(service) => panic!("{text}: {service:?}"),
        }
    }
}

/// One character too many, or wrong, and one or two too few, anywhere in `https://`.
#[test]
fn no_slip_in_https_sends_cleartext() {
    const SCHEME: &str = "https://";
    let mut slips = Vec::new();
    for at in 0..SCHEME.len() {
        for upto in at + 1..=(at + 2).min(SCHEME.len()) {
            slips.push(format!("{}{}", &SCHEME[..at], &SCHEME[upto..]));
        }
        for other in " ;:,.-_/\\?#@=|%+~'\"x".chars() {
            slips.push(format!("{}{other}{}", &SCHEME[..at], &SCHEME[at..]));
            slips.push(format!("{}{other}{}", &SCHEME[..at], &SCHEME[at + 1..]));
        }
    }
    // This one says http and nothing else.
    slips.retain(|slip| slip != "http://");
    assert!(slips.len() > 200);
    for rest in ["svc", "svc:8443", "10.0.0.1:443", "svc.ns/path", "[::1]:443"] {
        for slip in &slips {
            for text in [format!("{slip}{rest}"), format!("{slip}{rest}").to_uppercase()] {
                if let Ok(service) = Service::parse(&text) {
                    assert_eq!(service.scheme, Some(Scheme::Https), "{text}: {service:?}");
                }
            }
        }
    }
}

#[test]
fn a_name_that_only_begins_like_a_scheme_is_a_host() {
    use Scheme::{Http, Https};
    for (text, scheme, host, port) in [
        ("https-proxy", None, name("https-proxy"), None),
        ("http-echo:8080", None, name("http-echo"), Some(8080)),
        ("http.default:80", None, name("http.default"), Some(80)),
        ("https.default:8443", None, name("https.default"), Some(8443)),
        ("https_svc", None, name("https_svc"), None),
        ("https://https.default", Some(Https), name("https.default"), None),
        ("http://https-proxy", Some(Http), name("https-proxy"), None),
        ("httpbin:80", None, name("httpbin"), Some(80)),
        ("httpd:8080", None, name("httpd"), Some(8080)),
        ("httpd", None, name("httpd"), None),
        ("tlsproxy", None, name("tlsproxy"), None),
        ("http://grpc:9000", Some(Http), name("grpc"), Some(9000)),
        ("https://ws:443", Some(Https), name("ws"), Some(443)),
        ("grpc.default:9000", None, name("grpc.default"), Some(9000)),
        ("svc/", None, name("svc"), None),
        ("svc:", None, name("svc"), None),
    ] {
        let service = Service::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (service.scheme, service.host, service.port),
            (scheme, host, port),
            "{text}"
        );
    }
    for text in [
        "httpd/path",
        "svc/path",
        "svc//path",
        "svc?to=http://x",
        "svc/x?to=https://x",
    ] {
        let service = Service::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(!service.dropped.is_empty(), "{text}");
    }
}

/// Messages go to logs, and credentials must not.
#[test]
fn credentials_are_not_repeated() {
    for (text, shown) in [
        ("https://me:secret@svc/a", "https://…@svc/a"),
        ("me:secret@svc", "…@svc"),
        ("https:/me:se/cr@et@svc", "…@svc"),
        ("https://svc", "https://svc"),
    ] {
        assert_eq!(without_credentials(text), shown, "{text}");
        if let Err(message) = Service::parse(text) {
            assert!(!message.contains("cr"), "{text}: {message}");
        }
    }
    for text in [
        "https:/me:secret@svc",
        "htps://me:secret@svc",
        " https://me:secret@svc",
        "a:secret@b://svc",
    ] {
        let message = Service::parse(text).unwrap_err();
        assert!(!message.contains("secret"), "{text}: {message}");
    }
}

#[test]
fn bare_names_get_the_namespace_of_their_mapping() {
    for (host, namespace, flag, placed, looked_up_in) in [
        ("svc", "default", false, "svc", "default"),
        ("svc", "team", false, "svc.team", "team"),
        ("svc", "team", true, "svc", "default"),
        ("svc.other", "team", false, "svc.other", "team"),
        ("svc.", "team", false, "svc.", "team"),
        ("localhost", "team", false, "localhost", "team"),
    ] {
        let result = place(name(host), namespace, "default", flag);
        assert_eq!(
            (result.host, result.namespace),
            (name(placed), looked_up_in),
            "{host} in {namespace}"
        );
    }
    assert_eq!(place(ip("::1"), "team", "default", false).host, ip("::1"));
}

#[test]
fn s13_forms_of_a_cluster_name() {
    let certain = |service, namespace| {
        Some(ClusterName {
            service,
            namespace,
            certain: true,
        })
    };
    assert_eq!(ClusterName::of("svc", "ns"), certain("svc", "ns"));
    assert_eq!(ClusterName::of("svc.b.svc", "ns"), certain("svc", "b"));
    assert_eq!(
        ClusterName::of("svc.b.svc.cluster.local.", "ns"),
        certain("svc", "b")
    );
    assert_eq!(
        ClusterName::of("svc.b", "ns"),
        Some(ClusterName {
            service: "svc",
            namespace: "b",
            certain: false
        })
    );
    for other in ["a.b.test", "svc.b.pod.cluster.local", "x.svc.b.svc", "localhost"] {
        assert_eq!(ClusterName::of(other, "ns"), None, "{other}");
    }
    let forms = ClusterName::of("svc", "ns").unwrap().forms();
    assert_eq!(forms, ["svc", "svc.ns", "svc.ns.svc", "svc.ns.svc.cluster.local"]);
}
