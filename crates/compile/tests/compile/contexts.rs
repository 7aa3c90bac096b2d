//! Fields of TLSContexts, and which context a Mapping means.

use nuncio_compile::{LastGood, Options};
use nuncio_model::{Reason, Severity, TlsVersion, VerifyMode, VerifyName};

use crate::material::{authority, ca_secret};
use crate::world::{World, context, mapping, object, options, world};

/// A world with one context and a Mapping that uses it.
fn with(spec: &str) -> World {
    world(&(context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx")))
}

/// Asserts that a context is unusable, that the field is named and that the Mapping says why.
fn refused(spec: &str, field: &str, text: &str) {
    let world = with(spec);
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(Severity::Error, &format!("TLSContext ctx {field}:"), text);
}

#[test]
fn decision_5_retired_versions() {
    for version in ["v1.0", "v1.1"] {
        let low = with(&format!("min_tls_version: {version}")).fine();
        low.tells(
            Severity::Notice,
            "TLSContext ctx spec.min_tls_version",
            "counts as v1.2",
        );
        assert_eq!(
            (low.tls("m").min_version, low.tls("m").max_version),
            (TlsVersion::V1_2, TlsVersion::V1_3)
        );
        refused(
            &format!("max_tls_version: {version}"),
            "spec.max_tls_version",
            "raise it",
        );
    }
}

#[test]
fn a_name_that_is_nearly_that_of_a_context_is_put_right() {
    let wrong = |text: &str, contexts: &str| {
        let world =
            world(&(contexts.to_owned() + &mapping("m", &format!("service: https://svc; tls: {text}"))));
        world.refuses("m", Reason::TlsConfigUnresolved);
        let told = |problem: &&nuncio_model::Problem| problem.reason == "tls_config_unresolved";
        world.problems().iter().find(told).unwrap().message.clone()
    };
    let two = context("orders-tls", "sni: a.test") + &context("prices", "sni: b.test");
    assert!(wrong("order-tls", &two).ends_with("did you mean `orders-tls`?"));
    assert!(wrong("entirely-other", &two).ends_with("create it or correct the name"));
    // One of another namespace is not what is meant without its name.
    let elsewhere = object("TLSContext", "orders-tls", "other", "sni: a.test");
    assert!(wrong("order-tls", &elsewhere).ends_with("create it or correct the name"));
    // What it meant before serves on, and the cure says so.
    let before = world(&(context("ctx", "sni: a.test") + &mapping("m", "service: https://svc; tls: ctx")));
    let renamed = context("ctxt", "sni: a.test") + &mapping("m", "service: https://svc; tls: ctx");
    before.then(&renamed).tells(
        Severity::Error,
        "Mapping m spec.tls",
        "so what it meant before serves on, up to a restart; create it or correct the name",
    );
    let many: String = (0..101)
        .map(|n| context(&format!("context-{n}"), "sni: a.test"))
        .collect();
    assert!(wrong("contxt-1", &many).ends_with("create it or correct the name"));
}

#[test]
fn p11_a_group_of_suites() {
    let suites = "[\"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]\"]";
    let world = with(&format!("cipher_suites: {suites}")).fine();
    let expected = [
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ];
    assert_eq!(world.tls("m").cipher_suites[..], expected);
}

#[test]
fn p12_unknown_suites() {
    let world = with("cipher_suites: [ECDHE-RSA-AES128-GCM-SHA255, ECDHE-RSA-AES256-GCM-SHA384]");
    world.tells(
        Severity::Warning,
        "TLSContext ctx spec.cipher_suites",
        "did you mean `ECDHE-RSA-AES128-GCM-SHA256`?",
    );
    assert_eq!(
        world.tls("m").cipher_suites[..],
        ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
    );
    refused("cipher_suites: [nosuch]", "spec.cipher_suites", "nothing is left");
    refused(
        "cipher_suites: [AES128-SHA]",
        "spec.cipher_suites",
        "nothing is left",
    );
}

#[test]
fn suites_of_tls_1_3_alone_mean_tls_1_3_alone() {
    let world = with("cipher_suites: [TLS_AES_128_GCM_SHA256]").fine();
    assert_eq!(world.tls("m").min_version, TlsVersion::V1_3);
    world.tells(
        Severity::Notice,
        "TLSContext ctx spec.cipher_suites",
        "only TLS 1.3 is spoken",
    );
    refused(
        "cipher_suites: [TLS_AES_128_GCM_SHA256]; max_tls_version: v1.2",
        "spec.cipher_suites",
        "raise it",
    );
}

#[test]
fn groups_by_every_name() {
    let world = with("ecdh_curves: [P-256, secp256r1, X25519]").fine();
    assert_eq!(world.tls("m").groups[..], ["secp256r1", "X25519"]);
    let partly = with("ecdh_curves: [P-521, X25518, P-384]");
    assert_eq!(partly.tls("m").groups[..], ["secp384r1"]);
    partly.tells(
        Severity::Warning,
        "TLSContext ctx spec.ecdh_curves: `spec.ecdh_curves` has `P-521`",
        "does not speak",
    );
    partly.tells(
        Severity::Warning,
        "TLSContext ctx spec.ecdh_curves: `spec.ecdh_curves` has `X25518`",
        "`X25519`",
    );
    refused("ecdh_curves: [P-521]", "spec.ecdh_curves", "nothing is left");
}

#[test]
fn sni_that_cannot_be_sent() {
    let world = with("sni: 10.0.0.5");
    assert_eq!(
        (world.sni("m"), world.verify_names("m")),
        (None, vec!["10.0.0.5".to_owned()])
    );
    world.tells(Severity::Warning, "TLSContext ctx spec.sni", "RFC 6066");
    refused("sni: \"a b\"", "spec.sni", "write a DNS name");
    refused("sni: a-.test", "spec.sni", "write a DNS name");
    refused("sni: \"*.a.test\"", "spec.sni", "write a DNS name");
}

#[test]
fn decision_6_modes_and_their_roots() {
    let ca = ca_secret("ca", "ca.crt", &authority("ca").pem);
    for (spec, mode, bundle, system) in [
        ("sni: a.test", VerifyMode::Report, false, true),
        ("verify: {mode: none}", VerifyMode::None, false, false),
        ("verify: {mode: chain}", VerifyMode::Chain, false, true),
        ("verify: {mode: full}", VerifyMode::Full, false, true),
        ("ca_secret: ca", VerifyMode::Chain, true, false),
        (
            "ca_secret: ca; verify: {mode: full}",
            VerifyMode::Full,
            true,
            false,
        ),
        (
            "ca_secret: ca; verify: {mode: report}",
            VerifyMode::Report,
            true,
            false,
        ),
        (
            "ca_secret: ca; verify: {roots: system}",
            VerifyMode::Chain,
            true,
            true,
        ),
    ] {
        let manifests = ca.clone() + &context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx");
        let verify = world(&manifests).fine().tls("m").verify.clone();
        let got = (verify.mode, verify.roots.bundle.is_some(), verify.roots.system);
        assert_eq!(got, (mode, bundle, system), "{spec}");
    }
    refused(
        "verify: {mode: strict}",
        "spec.verify.mode",
        "none, report, chain or full",
    );
    refused("verify: {roots: mine}", "spec.verify.roots", "`system`");
}

#[test]
fn names_to_verify_can_be_set() {
    let world = with("sni: a.test; verify: {names: [B.test., 10.0.0.5, 'spiffe://a/b', b.test]}").fine();
    let expected = [
        VerifyName::Dns("b.test".into()),
        VerifyName::Ip("10.0.0.5".parse().unwrap()),
        VerifyName::Uri("spiffe://a/b".into()),
    ];
    assert_eq!(world.tls("m").verify.names[..], expected);
    refused("verify: {names: ['*.a.test']}", "spec.verify.names", "`*.a.test`");
}

#[test]
fn annotations_say_what_fields_say() {
    let annotated = |spec: &str, lines: &str| {
        let manifest = context("ctx", spec).replace(
            "  namespace: default\n",
            &format!(
                "  namespace: default\n  annotations:\n    {}\n",
                lines.replace("; ", "\n    ")
            ),
        );
        world(&(manifest + &mapping("m", "service: https://svc; tls: ctx")))
    };
    let by_annotation = annotated(
        "sni: a.test",
        "nuncio/verify-mode: full; nuncio/verify-names: \"b.test, 10.0.0.5\"; nuncio/verify-roots: system",
    )
    .fine();
    let by_field = with("sni: a.test; verify: {mode: full, names: [b.test, 10.0.0.5], roots: system}").fine();
    assert_eq!(by_annotation.tls("m"), by_field.tls("m"));
    let origins = by_annotation.upstream("m").origins.clone().unwrap();
    assert!(
        origins
            .verify_mode
            .to_string()
            .ends_with("metadata.annotations.nuncio/verify-mode")
    );

    let both = annotated("verify: {mode: chain}", "nuncio/verify-mode: none").fine();
    assert_eq!(both.tls("m").verify.mode, VerifyMode::Chain);
    both.tells(
        Severity::Notice,
        "TLSContext ctx metadata.annotations",
        "keep one of them",
    );
    for key in [
        "nuncio/verify-mod",
        "nuncio.io/verify-mode",
        "Nuncio/verify-mode",
        "nuncio/verifymode",
    ] {
        let misspelt = annotated("", &format!("{key}: full"));
        misspelt.tells(
            Severity::Error,
            "TLSContext ctx",
            "did you mean `nuncio/verify-mode`?",
        );
        misspelt.refuses("m", Reason::TlsConfigUnresolved);
    }
    annotated("", "nuncio/verify-mode: ful").refuses("m", Reason::TlsConfigUnresolved);
    annotated("", "nuncio/verify-pins: sha256/AAAA").refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn d_2_fields_that_belong_together() {
    refused(
        "cert_chain_file: /a.pem",
        "spec.cert_chain_file",
        "needs `private_key_file`",
    );
    refused(
        "private_key_file: /a.pem",
        "spec.private_key_file",
        "needs `cert_chain_file`",
    );
    refused(
        "secret: a; cert_chain_file: /a.pem; private_key_file: /b.pem",
        "spec.secret",
        "both given",
    );
    refused(
        "cert_chain_file: /a.pem; private_key_file: /b.pem",
        "spec.cert_chain_file",
        "was not read",
    );
    refused(
        "cacert_chain_file: /a.pem",
        "spec.cacert_chain_file",
        "was not read",
    );
}

#[test]
fn a_wrong_type_makes_a_context_unusable() {
    refused("cert_required: maybe", "spec.cert_required", "is expected");
    refused("verify: full", "spec.verify", "is expected");
    refused(
        "cipher_suites: ECDHE-RSA-AES256-GCM-SHA384",
        "spec.cipher_suites",
        "is expected",
    );
}

#[test]
fn the_default_mode_comes_from_module_or_environment() {
    let module = |mode: &str| {
        object(
            "Module",
            "ambassador",
            "default",
            &format!("config: {{defaults: {{upstream_tls_verify_mode: {mode}}}}}"),
        )
    };
    let plain = mapping("m", "service: https://svc");
    let by_module = world(&(module("full") + &plain)).fine();
    assert_eq!(by_module.tls("m").verify.mode, VerifyMode::Full);
    let origin = by_module
        .upstream("m")
        .origins
        .as_ref()
        .unwrap()
        .verify_mode
        .to_string();
    assert_eq!(
        origin,
        "Module ambassador, spec.config.defaults.upstream_tls_verify_mode"
    );

    let environment = Options {
        verify_mode: Some(VerifyMode::Chain),
        ..options()
    };
    let by_environment = World::new(&plain, &environment.clone(), &LastGood::default()).fine();
    assert_eq!(by_environment.tls("m").verify.mode, VerifyMode::Chain);
    let both = World::new(&(module("none") + &plain), &environment, &LastGood::default()).fine();
    assert_eq!(
        (both.tls("m").verify.mode, both.tls("m").verify.roots.system),
        (VerifyMode::None, false)
    );

    // What cannot be read must not verify less than was meant.
    let typo = world(&(module("ful") + &plain));
    assert_eq!(typo.tls("m").verify.mode, VerifyMode::Full);
    typo.tells(
        Severity::Error,
        "Module ambassador",
        "none, report, chain or full",
    );
    assert_eq!(
        world(&(module("1") + &plain)).tls("m").verify.mode,
        VerifyMode::Full
    );

    let ca = ca_secret("ca", "ca.crt", &authority("ca").pem);
    let lowered = world(
        &(module("report")
            + &ca
            + &context("ctx", "ca_secret: ca")
            + &mapping("m", "service: https://svc; tls: ctx")),
    );
    assert_eq!(lowered.tls("m").verify.mode, VerifyMode::Report);
    lowered.tells(
        Severity::Warning,
        "TLSContext ctx spec.verify.mode",
        "refuses nothing",
    );
}

#[test]
fn k12_contexts_of_one_name_are_each_namespaces_own() {
    let manifests = ["int", "stg"].map(|namespace| {
        object("TLSContext", "web", namespace, &format!("sni: {namespace}.test"))
            + &object(
                "Mapping",
                namespace,
                namespace,
                &format!("hostname: \"*\"; prefix: /{namespace}; service: https://a.test; tls: web"),
            )
    });
    let world = world(&manifests.concat()).fine();
    assert_eq!(world.sni("int").as_deref(), Some("int.test"));
    assert_eq!(world.sni("stg").as_deref(), Some("stg.test"));
}

#[test]
fn decision_7_where_a_context_is_looked_for() {
    let contexts = |namespaces: &[&str]| -> String {
        namespaces
            .iter()
            .map(|namespace| object("TLSContext", "web", namespace, &format!("sni: {namespace}.test")))
            .collect()
    };
    let mapping = |tls: &str| {
        object(
            "Mapping",
            "m",
            "own",
            &format!("hostname: \"*\"; prefix: /; service: https://a.test; tls: {tls}"),
        )
    };
    for (namespaces, tls, sni) in [
        (&["own", "default", "x"][..], "web", "own.test"),
        (&["default", "x"], "web", "default.test"),
        (&["own", "x"], "web.x", "x.test"),
        (&["x"], "web", "x.test"),
    ] {
        let world = world(&(contexts(namespaces) + &mapping(tls))).fine();
        assert_eq!(world.sni("m").as_deref(), Some(sni), "{namespaces:?} {tls}");
        let told = world
            .told(Severity::Notice)
            .iter()
            .any(|line| line.contains("only namespace `x` has"));
        assert_eq!(told, namespaces == ["x"], "{namespaces:?} {tls}");
    }
    let several = world(&(contexts(&["x", "y"]) + &mapping("web")));
    several.refuses("m", Reason::TlsConfigUnresolved);
    several.tells(Severity::Error, "Mapping m", "web.x, web.y");
    // A dot is an ordinary character in a name, and the nearer context wins.
    let dotted = object("TLSContext", "web.x", "own", "sni: dotted.test");
    let world = world(&(contexts(&["x"]) + &dotted + &mapping("web.x"))).fine();
    assert_eq!(world.sni("m").as_deref(), Some("dotted.test"));
}

#[test]
fn another_teams_context_takes_nothing_away() {
    let elsewhere =
        |namespace: &str| object("TLSContext", "web", namespace, &format!("sni: {namespace}.test"));
    let mapping = mapping("m", "service: https://a.test; tls: web");
    let before = world(&(elsewhere("x") + &mapping));
    let after = before.then(&(elsewhere("x") + &elsewhere("a") + &mapping));
    assert_eq!(after.sni("m").as_deref(), Some("x.test"));
    after.tells(Severity::Error, "Mapping m spec.tls", "web.a, web.x");
}

/// A field that is lost to a slip must not take its protection along.
#[test]
fn a_misspelt_field_makes_the_context_unusable() {
    for (spec, hint) in [
        ("caSecret: ca", "did you mean `ca_secret`?"),
        ("ca_secrt: ca", "did you mean `ca_secret`?"),
        ("min_tls_verison: v1.3", "did you mean `min_tls_version`?"),
        ("verfy: {mode: full}", "did you mean `verify`?"),
        ("verify: {mod: full}", "did you mean `mode`?"),
        ("verify: {ca_secret: ca}", "write it as `spec.ca_secret`"),
        ("mode: full", "write it as `spec.verify.mode`"),
        ("trusted_ca: ca", "correct its name, or remove it"),
        ("crl: list", "did you mean `crl_secret`?"),
    ] {
        let world = world(&(context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx")));
        world.tells(Severity::Error, "TLSContext ctx spec", hint);
        world.refuses("m", Reason::TlsConfigUnresolved);
    }
    let harmless =
        world(&(context("ctx", "hosst: [a.test]") + &mapping("m", "service: https://svc; tls: ctx")));
    harmless.tls("m");
    harmless.tells(
        Severity::Warning,
        "TLSContext ctx spec.hosst",
        "did you mean `hosts`?",
    );
}

#[test]
fn a_field_beside_spec_makes_the_context_unusable() {
    for line in ["ca_secret: ca", "verify: {mode: full}"] {
        let manifest =
            context("ctx", "sni: a.test") + line + "\n" + &mapping("m", "service: https://svc; tls: ctx");
        let world = world(&manifest);
        world.tells(Severity::Error, "TLSContext ctx", "write it under `spec`");
        world.refuses("m", Reason::TlsConfigUnresolved);
    }
    let manifest = context("ctx", "ca_secret: ca").replace("spec:", "sepc:");
    world(&(manifest + &mapping("m", "service: https://svc; tls: ctx")))
        .refuses("m", Reason::TlsConfigUnresolved);
}

/// Templates leave empty values behind.
#[test]
fn an_empty_field_makes_the_context_unusable() {
    for spec in [
        "ca_secret: ''",
        "ca_secret: ' '",
        "crl_secret: ''",
        "secret: ''",
        "cacert_chain_file: ''",
        "min_tls_version: ''",
        "verify: {mode: ''}",
        "verify: {roots: ''}",
        "verify: {pins: []}",
        "verify: {names: []}",
    ] {
        let world = world(&(context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx")));
        world.refuses("m", Reason::TlsConfigUnresolved);
    }
    let null = world(&(context("ctx", "ca_secret: null") + &mapping("m", "service: https://svc; tls: ctx")));
    null.tls("m");
    null.tells(
        Severity::Warning,
        "TLSContext ctx spec.ca_secret",
        "is null, so it has no effect",
    );
}

#[test]
fn what_a_context_asks_of_clients_is_said_to_have_no_effect_yet() {
    let spec = "cert_required: true; redirect_cleartext_from: 8080";
    let unused = world(&context("ctx", spec));
    unused.tells(
        Severity::Warning,
        "TLSContext ctx spec.cert_required",
        "no client is asked for a certificate",
    );
    unused.tells(
        Severity::Warning,
        "TLSContext ctx spec.redirect_cleartext_from",
        "no request is redirected",
    );
    let used = world(&(context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx"))).fine();
    used.tells(
        Severity::Notice,
        "TLSContext ctx spec.cert_required",
        "about clients of the gateway",
    );
    world(&context("ctx", "cert_required: false")).fine();
}
