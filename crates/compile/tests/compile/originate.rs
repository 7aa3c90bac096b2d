//! Whether and how TLS is spoken (rows D1 to D20), and under which name (rows S1 to S13).

use nuncio_compile::Options;
use nuncio_model::{Alpn, Reason, Resolve, Severity, TlsVersion, UpstreamHttp, VerifyMode, VerifyName};

use crate::material::{authority, ca_secret, tls_secret};
use crate::world::{World, context, mapping, object, options, world};

fn served(spec: &str) -> World {
    world(&mapping("m", spec))
}

#[test]
fn d1_https_defaults_to_443() {
    let world = served("service: https://svc").fine();
    assert_eq!(world.address("m"), "svc:443");
    let tls = world.tls("m");
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::V1_2, TlsVersion::V1_3)
    );
    assert_eq!(
        (tls.verify.mode, tls.verify.roots.system),
        (VerifyMode::Report, true)
    );
    assert!(tls.client.is_none());
}

#[test]
fn d2_the_scheme_may_be_in_any_case() {
    let world = served("service: HTTPS://svc").fine();
    assert_eq!(world.address("m"), "svc:443");
    assert_eq!(
        world.upstream("m").identity,
        served("service: https://svc").upstream("m").identity
    );
}

#[test]
fn d3_a_context_alone_means_tls_on_443() {
    let world = world(&(context("ctx", "sni: a.test") + &mapping("m", "service: svc; tls: ctx"))).fine();
    assert_eq!(world.address("m"), "svc:443");
    assert_eq!(world.sni("m").as_deref(), Some("a.test"));
    let upstream = world.upstream("m");
    assert_eq!(&*upstream.name, "https://svc:443 (ctx.default)");
    let origins = upstream.origins.clone().unwrap();
    assert_eq!(origins.enabled.to_string(), "Mapping m.default, spec.tls");
    assert_eq!(origins.sni.to_string(), "TLSContext ctx.default, spec.sni");
}

#[test]
fn d4_http_with_a_context_is_tls_with_a_notice() {
    let world =
        world(&(context("ctx", "sni: a.test") + &mapping("m", "service: http://svc; tls: ctx"))).fine();
    assert_eq!(world.address("m"), "svc:443");
    world.tls("m");
    world.tells(Severity::Notice, "Mapping m spec.service", "write https://");
}

#[test]
fn d5_port_443_without_https_is_cleartext_with_a_warning() {
    let world = served("service: svc:443");
    assert_eq!(world.address("m"), "svc:443");
    assert!(world.upstream("m").identity.tls.is_none());
    world.tells(
        Severity::Warning,
        "Mapping m spec.service",
        "port 443 without https://",
    );
    served("service: http://svc:443").fine();
}

#[test]
fn d6_https_goes_to_whatever_port_is_written() {
    assert_eq!(served("service: https://svc:80").fine().address("m"), "svc:80");
}

#[test]
fn d7_unknown_context_is_unresolved() {
    let world = served("service: svc; tls: nosuch");
    world.refuses("m", Reason::TlsConfigUnresolved);
    assert!(
        world.output.snapshot.upstreams.is_empty(),
        "there is nothing that cleartext could be sent to"
    );
}

#[test]
fn d8_unknown_context_is_unresolved_for_https_too() {
    served("service: https://svc; tls: nosuch").refuses("m", Reason::TlsConfigUnresolved);
    served("service: http://svc; tls: nosuch").refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn d9_a_deleted_context_serves_on_until_a_restart() {
    let mapping = mapping("m", "service: https://svc; tls: ctx");
    let before = world(&(context("ctx", "sni: a.test") + &mapping)).fine();
    let after = before.then(&mapping);
    assert_eq!(
        after.upstream("m").identity,
        before.upstream("m").identity,
        "the pool is kept"
    );
    assert!(after.upstream("m").origins.as_ref().unwrap().stale);
    after.tells(Severity::Error, "Mapping m spec.tls", "serves on");
    // And for as long as it takes.
    let later = after.then(&mapping);
    assert_eq!(later.sni("m").as_deref(), Some("a.test"));
    // A Mapping that never used it has nothing to go on with, nor has this one after a restart.
    let with_other =
        later.then(&(mapping.clone() + &crate::world::mapping("other", "service: https://svc; tls: ctx")));
    with_other.refuses("other", Reason::TlsConfigUnresolved);
    world(&mapping).refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn d9_a_context_that_breaks_serves_on_and_is_mended() {
    let mapping = mapping("m", "service: https://svc; tls: ctx");
    let before = world(&(context("ctx", "sni: a.test") + &mapping)).fine();
    let broken = before.then(&(context("ctx", "sni: b.test; max_tls_version: v1.1") + &mapping));
    assert_eq!(
        broken.sni("m").as_deref(),
        Some("a.test"),
        "nothing of the broken version is used"
    );
    assert!(broken.upstream("m").origins.as_ref().unwrap().stale);
    broken.tells(Severity::Error, "TLSContext ctx spec.max_tls_version", "v1.2");
    broken.tells(Severity::Error, "TLSContext ctx :", "last good version serves on");
    let mended = broken.then(&(context("ctx", "sni: b.test") + &mapping)).fine();
    assert_eq!(mended.sni("m").as_deref(), Some("b.test"));
    assert!(!mended.upstream("m").origins.as_ref().unwrap().stale);
}

#[test]
fn d10_sni_alone_is_enough() {
    let world =
        world(&(context("ctx", "sni: x.test") + &mapping("m", "service: https://svc; tls: ctx"))).fine();
    assert_eq!(world.sni("m").as_deref(), Some("x.test"));
    assert_eq!(world.verify_names("m"), ["x.test"]);
}

#[test]
fn d11_a_ca_alone_is_enough_and_is_enforced() {
    let ca = authority("ca");
    let manifests = ca_secret("ca", "tls.crt", &ca.pem)
        + &context("ctx", "ca_secret: ca")
        + &mapping("m", "service: https://svc; tls: ctx");
    let world = world(&manifests).fine();
    let tls = world.tls("m");
    assert_eq!(tls.verify.mode, VerifyMode::Chain);
    assert_eq!(tls.verify.roots.bundle.as_ref().unwrap().anchors.len(), 1);
    assert!(!tls.verify.roots.system && tls.client.is_none());
    assert_eq!(
        world.output.snapshot.certificates[0].from,
        "Secret ca.default, tls.crt"
    );
}

#[test]
fn d12_min_alone_raises_the_ceiling_with_it() {
    let manifests = context("ctx", "min_tls_version: v1.3") + &mapping("m", "service: https://svc; tls: ctx");
    let tls = world(&manifests).fine().tls("m");
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::V1_3, TlsVersion::V1_3)
    );
}

#[test]
fn d13_min_above_max_breaks_that_context_only() {
    let manifests = context("bad", "min_tls_version: v1.3; max_tls_version: v1.2")
        + &context("good", "max_tls_version: v1.2")
        + &mapping("m", "service: https://svc; tls: bad")
        + &mapping("other", "service: https://svc; tls: good");
    let world = world(&manifests);
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(
        Severity::Error,
        "TLSContext bad spec.min_tls_version",
        "no version to speak",
    );
    assert_eq!(world.tls("other").max_version, TlsVersion::V1_2);
}

#[test]
fn d14_a_misspelt_version_is_an_error() {
    for value in ["\"1.3\"", "TLSv1.3", "v1.4"] {
        let spec = format!("max_tls_version: {value}");
        let world = world(&(context("ctx", &spec) + &mapping("m", "service: https://svc; tls: ctx")));
        world.refuses("m", Reason::TlsConfigUnresolved);
        world.tells(
            Severity::Error,
            "TLSContext ctx spec.max_tls_version",
            "did you mean `v1.3`?",
        );
    }
    let world =
        world(&(context("ctx", "max_tls_version: 1.3") + &mapping("m", "service: https://svc; tls: ctx")));
    world.tells(
        Severity::Error,
        "TLSContext ctx spec.max_tls_version",
        "write v1.2 or v1.3",
    );
    world.refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn d15_fields_of_termination_mean_nothing_upstream() {
    let ca = authority("ca");
    let manifests = tls_secret("mine", "default", &ca.leaf("client"))
        + &context(
            "ctx",
            "hosts: [a.test]; secret: mine; cert_required: true; redirect_cleartext_from: 8080",
        )
        + &mapping("m", "service: https://svc; tls: ctx");
    let world = world(&manifests).fine();
    assert!(world.tls("m").client.is_some());
    world.tells(Severity::Notice, "TLSContext ctx spec.cert_required", "no effect");
    world.tells(
        Severity::Notice,
        "TLSContext ctx spec.redirect_cleartext_from",
        "no effect",
    );
}

#[test]
fn d16_mappings_with_different_contexts_share_nothing() {
    let ca = authority("ca");
    let manifests = tls_secret("a", "default", &ca.leaf("a"))
        + &tls_secret("b", "default", &ca.leaf("b"))
        + &context("a", "secret: a")
        + &context("b", "secret: b")
        + &mapping("m", "service: https://svc; tls: a")
        + &mapping("n", "service: https://svc; tls: b")
        + &mapping("o", "service: https://svc; tls: a");
    let world = world(&manifests).fine();
    assert_ne!(world.tls("m").client, world.tls("n").client);
    assert_eq!(world.forward("m").upstream, world.forward("o").upstream);
    assert_ne!(world.upstream("m").name, world.upstream("n").name);
    let users: Vec<String> = world
        .upstream("m")
        .mappings
        .iter()
        .map(|m| m.name.to_string())
        .collect();
    assert_eq!(users, ["m", "o"]);
}

#[test]
fn d16_equal_settings_are_one_upstream_whatever_they_are_called() {
    let manifests = context("a", "sni: x.test")
        + &context("b", "sni: X.test.")
        + &mapping("m", "service: https://svc; tls: a")
        + &mapping("n", "service: svc:443; tls: b");
    let world = world(&manifests).fine();
    assert_eq!(world.forward("m").upstream, world.forward("n").upstream);
}

#[test]
fn upstreams_that_differ_have_names_that_differ() {
    let manifests = mapping("a", "service: https://svc")
        + &mapping("b", "service: https://svc; host_rewrite: b.test")
        + &mapping("c", "service: https://svc; grpc: true")
        + &mapping("d", "service: svc")
        + &mapping("e", "service: svc; grpc: true");
    let world = world(&manifests).fine();
    let names = ["a", "b", "c", "d", "e"].map(|name| world.upstream(name).name.to_string());
    let expected = [
        "https://svc:443",
        "https://svc:443 sni=b.test",
        "https://svc:443 h2",
        "http://svc:80",
        "http://svc:80 h2",
    ];
    assert_eq!(names, expected);
    let rules = "service: https://svc; host_rewrite: b.test; grpc: true";
    let more = self::world(
        &(manifests + &mapping("f", rules) + &mapping("g", "service: https://svc; host_rewrite: B.test:1")),
    );
    assert_eq!(&*more.upstream("f").name, "https://svc:443 sni=b.test h2");
    assert_eq!(more.forward("g").upstream, more.forward("b").upstream);
}

#[test]
fn d17_each_member_of_a_canary_group_has_its_own_upstream() {
    let canary = |name: &str, spec: &str| mapping(name, spec).replace(&format!("/{name}/"), "/");
    let manifests = canary("new", "service: https://new; host_rewrite: new.test; weight: 50")
        + &canary("old", "service: http://old; host_rewrite: old.test");
    let world = world(&manifests).fine();
    assert_eq!(world.order(), ["new+old"]);
    assert_eq!(
        (world.target("new").share_end, world.target("old").share_end),
        (50, 100)
    );
    assert_eq!(world.sni("new").as_deref(), Some("new.test"));
    assert_eq!(world.forward("new").host_rewrite.unwrap(), "new.test");
    assert!(world.upstream("old").identity.tls.is_none());
    assert_eq!(world.forward("old").host_rewrite.unwrap(), "old.test");
}

#[test]
fn d19_a_path_in_the_service_is_left_out_with_a_notice() {
    let world = served("service: https://svc/path?x").fine();
    assert_eq!(world.address("m"), "svc:443");
    world.tells(Severity::Notice, "Mapping m spec.service", "not the path");
}

#[test]
fn d20_a_bad_port_is_that_mappings_own_problem() {
    let world = world(&(mapping("m", "service: https://svc:99999") + &mapping("n", "service: https://svc")));
    world.refuses("m", Reason::ServiceInvalid);
    assert_eq!(world.address("n"), "svc:443");
    served("service: htps://svc").refuses("m", Reason::ServiceInvalid);
    served("host_rewrite: a").refuses("m", Reason::ServiceInvalid);
}

#[test]
fn decision_1_a_wrong_type_of_tls_is_no_way_around_it() {
    let world = served("service: https://svc; tls: true");
    world.refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn s1_the_host_of_the_service_is_the_server_name() {
    assert_eq!(
        served("service: https://a.test").sni("m").as_deref(),
        Some("a.test")
    );
}

#[test]
fn s2_host_rewrite_is_the_server_name() {
    let world = served("service: https://a.test; host_rewrite: b.test").fine();
    assert_eq!(world.sni("m").as_deref(), Some("b.test"));
    assert_eq!(world.verify_names("m"), ["b.test"]);
    assert_eq!(
        world.upstream("m").origins.as_ref().unwrap().sni.to_string(),
        "Mapping m.default, spec.host_rewrite"
    );
}

#[test]
fn s3_sni_wins_over_host_rewrite() {
    let spec = "service: https://a.test; tls: ctx; host_rewrite: b.test";
    let world = world(&(context("ctx", "sni: c.test") + &mapping("m", spec))).fine();
    assert_eq!(world.sni("m").as_deref(), Some("c.test"));
    assert_eq!(world.forward("m").host_rewrite.unwrap(), "b.test");
}

#[test]
fn s4_a_port_in_host_rewrite_is_no_part_of_the_server_name() {
    let world = served("service: https://a.test; host_rewrite: b.test:8443").fine();
    assert_eq!(world.sni("m").as_deref(), Some("b.test"));
    assert_eq!(world.forward("m").host_rewrite.unwrap(), "b.test:8443");
}

#[test]
fn s5_a_trailing_dot_is_for_dns_only() {
    let world = served("service: https://a.test.").fine();
    assert_eq!(world.sni("m").as_deref(), Some("a.test"));
    assert_eq!(world.verify_names("m"), ["a.test"]);
    assert_eq!(
        world.upstream("m").identity.resolve,
        Resolve::Dns("a.test.".into())
    );
}

#[test]
fn s6_the_server_name_is_lower_case() {
    assert_eq!(
        served("service: https://A.Test").sni("m").as_deref(),
        Some("a.test")
    );
    let world = world(&(context("ctx", "sni: C.Test") + &mapping("m", "service: https://a.test; tls: ctx")));
    assert_eq!(world.sni("m").as_deref(), Some("c.test"));
}

#[test]
fn s7_idn_sni_is_an_a_label() {
    let world = served("service: https://bücher.test").fine();
    assert_eq!(world.sni("m").as_deref(), Some("xn--bcher-kva.test"));
    assert_eq!(world.verify_names("m"), ["xn--bcher-kva.test"]);
}

#[test]
fn s8_an_ip_literal_sends_no_server_name() {
    let world = served("service: https://10.0.0.5:8443").fine();
    assert_eq!(world.sni("m"), None);
    assert_eq!(
        world.tls("m").verify.names[0],
        VerifyName::Ip("10.0.0.5".parse().unwrap())
    );
    assert_eq!(
        world.upstream("m").identity.resolve,
        Resolve::Fixed(["10.0.0.5:8443".parse().unwrap()].into())
    );
}

#[test]
fn s9_an_ip_literal_with_sni_is_verified_by_it() {
    let ca = authority("ca");
    let manifests = ca_secret("ca", "ca.crt", &ca.pem)
        + &context("ctx", "sni: a.test; ca_secret: ca")
        + &mapping("m", "service: https://10.0.0.5; tls: ctx");
    let world = world(&manifests).fine();
    assert_eq!(world.sni("m").as_deref(), Some("a.test"));
    assert_eq!(world.verify_names("m"), ["a.test"]);
}

#[test]
fn s11_ipv6_literals() {
    let world = served("service: https://[2001:db8::1]:8443").fine();
    assert_eq!(
        (world.sni("m"), world.verify_names("m")),
        (None, vec!["2001:db8::1".to_owned()])
    );
    assert_eq!(world.address("m"), "[2001:db8::1]:8443");
}

#[test]
fn s12_the_server_name_is_never_an_endpoints_address() {
    let manifests = "
---
apiVersion: v1
kind: Service
metadata: {name: svc, namespace: ns}
spec: {ports: [{port: 443}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: svc, namespace: ns}
subsets: [{addresses: [{ip: 10.1.1.1}], ports: [{port: 8443}]}]
"
    .to_owned()
        + &object(
            "Mapping",
            "m",
            "ns",
            "hostname: \"*\"; prefix: /; service: https://svc; resolver: kubernetes-endpoint",
        );
    let world = world(&manifests).fine();
    assert_eq!(world.sni("m").as_deref(), Some("svc.ns"));
    assert!(
        matches!(&world.upstream("m").identity.resolve, Resolve::Service(key) if &*key.namespace == "ns" && key.port == 443)
    );
}

#[test]
fn s13_a_cluster_name_is_verified_in_all_its_forms() {
    let forms = ["svc", "svc.ns", "svc.ns.svc", "svc.ns.svc.cluster.local"];
    let in_ns = |service: &str| {
        object(
            "Mapping",
            "m",
            "ns",
            &format!("hostname: \"*\"; prefix: /; service: https://{service}"),
        )
    };
    let names = |manifests: String| {
        let mut names = world(&manifests).fine().verify_names("m");
        let first = names[0].clone();
        names.sort_by_key(String::len);
        (first, names)
    };
    for (service, first) in [
        ("svc", "svc.ns"),
        ("svc.ns.svc", "svc.ns.svc"),
        ("svc.ns.svc.cluster.local", "svc.ns.svc.cluster.local"),
        ("svc.ns.svc.cluster.local.", "svc.ns.svc.cluster.local"),
    ] {
        assert_eq!(
            names(in_ns(service)),
            (first.to_owned(), forms.map(str::to_owned).to_vec()),
            "{service}"
        );
    }
    // `svc.ns` might be a name of the world, unless there is such a Service.
    assert_eq!(names(in_ns("svc.ns")).1, ["svc.ns"]);
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc, namespace: ns}\n";
    assert_eq!(names(in_ns("svc.ns") + service).1, forms);
    // In the gateway's own namespace a bare name stays bare.
    assert_eq!(
        served("service: https://svc").verify_names("m")[..2],
        ["svc", "svc.default"]
    );
}

#[test]
fn s14_a_bare_name_has_no_form_that_a_wildcard_of_the_world_covers() {
    let world = served("service: https://test");
    assert!(
        world
            .verify_names("m")
            .iter()
            .all(|name| !name.ends_with(".test"))
    );
}

#[test]
fn a_host_rewrite_that_is_no_name_is_not_sent_as_one() {
    let world = served("service: https://a.test; host_rewrite: \"*.b.test\"");
    assert_eq!(world.sni("m").as_deref(), Some("a.test"));
    world.tells(Severity::Warning, "Mapping m spec.host_rewrite", "is no DNS name");
}

#[test]
fn a_host_that_tls_cannot_carry_is_not_sent() {
    for host in ["svc.2", "a-.test"] {
        let world = served(&format!("service: https://{host}"));
        assert_eq!(world.sni("m"), None, "{host}");
        world.tells(
            Severity::Warning,
            "Mapping m spec.service",
            "cannot be sent as a server name",
        );
        served(&format!("service: {host}")).fine();
    }
    let rewritten = served("service: https://a.test; host_rewrite: svc.2");
    assert_eq!(rewritten.sni("m").as_deref(), Some("a.test"));
}

#[test]
fn p3_grpc_speaks_h2() {
    let world = served("service: https://svc; grpc: true").fine();
    assert_eq!(world.tls("m").alpn[..], [Alpn::H2, Alpn::Http1]);
    assert_eq!(world.upstream("m").identity.http, UpstreamHttp::Http2);
    let cleartext = served("service: svc; grpc: true").fine();
    assert_eq!(cleartext.upstream("m").identity.http, UpstreamHttp::Http2);
}

#[test]
fn p8_http_1_is_all_that_is_offered_by_default() {
    let world = served("service: https://svc").fine();
    assert_eq!(world.tls("m").alpn[..], [Alpn::Http1]);
    assert_eq!(world.upstream("m").identity.http, UpstreamHttp::Http1);
}

#[test]
fn p6_p7_p9_alpn_decides_what_is_spoken() {
    let with = |alpn: &str, more: &str| {
        let spec = format!("service: https://svc; tls: ctx{more}");
        world(&(context("ctx", &format!("alpn_protocols: \"{alpn}\"")) + &mapping("m", &spec)))
    };
    for (alpn, offered, http) in [
        ("h2", vec![Alpn::H2], UpstreamHttp::Negotiated),
        (
            "h2, http/1.1",
            vec![Alpn::H2, Alpn::Http1],
            UpstreamHttp::Negotiated,
        ),
        (
            " http/1.1 ,h2,",
            vec![Alpn::Http1, Alpn::H2],
            UpstreamHttp::Negotiated,
        ),
        ("http/1.1", vec![Alpn::Http1], UpstreamHttp::Http1),
        ("", vec![Alpn::Http1], UpstreamHttp::Http1),
    ] {
        let world = with(alpn, "").fine();
        assert_eq!(world.tls("m").alpn[..], offered, "{alpn}");
        assert_eq!(world.upstream("m").identity.http, http, "{alpn}");
    }
    let upgrade = with("h2, http/1.1", "; allow_upgrade: [WebSocket]").fine();
    assert_eq!(upgrade.forward("m").allow_upgrade[..], ["websocket".into()]);
    let mixed = with("h2,spdy/3", "");
    mixed.tells(Severity::Warning, "TLSContext ctx spec.alpn_protocols", "spdy/3");
    assert_eq!(mixed.tls("m").alpn[..], [Alpn::H2]);
    assert_eq!(
        mixed.tls("m").offered_alpn().collect::<Vec<_>>(),
        ["h2", "spdy/3"]
    );
    for (alpn, more, http) in [
        ("istio", "", UpstreamHttp::Http1),
        ("istio,http/1.1", "", UpstreamHttp::Http1),
        ("istio-h2", "", UpstreamHttp::Negotiated),
        ("istio", "; grpc: true", UpstreamHttp::Http2),
    ] {
        let world = with(alpn, more).fine();
        assert!(
            world
                .tls("m")
                .offered_alpn()
                .any(|name| name.starts_with("istio")),
            "{alpn}"
        );
        assert_eq!(world.upstream("m").identity.http, http, "{alpn}");
    }
    with(&"a".repeat(256), "").refuses("m", Reason::TlsConfigUnresolved);
    with("http/1.1", "; grpc: true").tells(Severity::Warning, "Mapping m spec.grpc", "add h2");
}

#[test]
fn a_resolve_rule_changes_the_address_and_nothing_else() {
    let rule = |text: &str| Options {
        resolve: vec![text.parse().unwrap()],
        ..options()
    };
    let manifests = mapping("m", "service: https://A.test:8443");
    let plain = world(&manifests).fine();
    for (text, address) in [
        ("a.test:8443:127.0.0.1", "127.0.0.1:8443"),
        ("A.Test:8443:127.0.0.1:9000", "127.0.0.1:9000"),
        ("a.test:8443:[::1]:9000", "[::1]:9000"),
    ] {
        let ruled = World::new(&manifests, &rule(text), &Default::default()).fine();
        let identity = &ruled.upstream("m").identity;
        assert_eq!(
            identity.resolve,
            Resolve::Fixed([address.parse().unwrap()].into()),
            "{text}"
        );
        assert_eq!(identity.tls, plain.upstream("m").identity.tls);
    }
    let other = World::new(&manifests, &rule("a.test:443:127.0.0.1"), &Default::default());
    assert_eq!(
        other.upstream("m").identity.resolve,
        Resolve::Dns("a.test".into())
    );
    for text in [
        "",
        "a",
        "a:1",
        "a:x:1.1.1.1",
        "a:1:x",
        "a:1:1.1.1.1:x",
        ":1:1.1.1.1",
        "[::1:1:1.1.1.1",
    ] {
        assert!(text.parse::<nuncio_compile::ResolveRule>().is_err(), "{text}");
    }
}
