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
        ("//svc:8080", None, name("svc"), Some(8080)),
        ("http://svc", Some(Http), name("svc"), None),
        ("https://svc", Some(Https), name("svc"), None),
        ("HTTPS://SVC.Ns", Some(Https), name("svc.ns"), None),
        ("hTTp://svc:80", Some(Http), name("svc"), Some(80)),
        ("https://svc/", Some(Https), name("svc"), None),
        ("https://svc:0", Some(Https), name("svc"), None),
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
        ("svc:-1", "no number"),
        ("https:svc", "write `https://svc`"),
        ("HTTP:svc", "write `http://svc`"),
        ("htps://svc", "unknown scheme"),
        ("tcp://svc", "unknown scheme"),
        ("2001:db8::1", "brackets"),
        ("[2001:db8::1", "without its"),
        ("[::1]x", "between"),
        ("[fe80::1%25eth0]:80", "zone"),
        ("[svc]:80", "without them"),
        ("svc%2", "hexadecimal"),
        ("svc%zz", "hexadecimal"),
        ("svc ", "character"),
        ("a..b", "empty part"),
    ] {
        match Service::parse(text) {
            Err(message) => assert!(message.contains(says), "{text}: {message}"),
            Ok(service) => panic!("{text}: {service:?}"),
        }
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
