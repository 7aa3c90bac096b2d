//! What Mappings say about the requests that they send: `retry_policy` and `auto_host_rewrite`; and what of
//! TLS each request decides: `auto_sni`.

use std::time::Duration;

use nuncio_model::{AutoSni, Reason, RetryOn, RetryPolicy, Severity};

use crate::world::{context, mapping, object, world};

fn policy(on: RetryOn, retries: u32, per_try: Option<u64>) -> Option<RetryPolicy> {
    Some(RetryPolicy {
        on,
        retries,
        per_try_timeout: per_try.map(Duration::from_millis),
    })
}

#[test]
fn a_retry_policy_has_the_defaults_of_the_reference() {
    let manifests = mapping("a", "service: a; retry_policy: {retry_on: 5xx}")
        + &mapping(
            "b",
            "service: b; retry_policy: {retry_on: connect-failure, num_retries: 4, per_try_timeout: 0.25s}",
        )
        + &mapping("c", "service: c; retry_policy: {retry_on: 5xx, num_retries: 0}")
        + &mapping("d", "service: d");
    let world = world(&manifests).fine();
    assert_eq!(world.forward("a").retry, policy(RetryOn::ServerError, 1, None));
    assert_eq!(
        world.forward("b").retry,
        policy(RetryOn::ConnectFailure, 4, Some(250))
    );
    assert_eq!(world.forward("c").retry, None);
    assert_eq!(world.forward("d").retry, None);
}

#[test]
fn every_value_of_retry_on_is_read() {
    for on in RetryOn::ALL {
        let world = world(&mapping(
            "m",
            &format!("service: a; retry_policy: {{retry_on: {}}}", on.as_str()),
        ));
        assert_eq!(world.errors(), Vec::<String>::new());
        assert_eq!(world.forward("m").retry, policy(on, 1, None));
        let told = world.told(Severity::Warning);
        assert_eq!(
            told.len(),
            usize::from(on == RetryOn::RetriableStatusCodes),
            "{told:?}"
        );
    }
}

/// The reference drops such Mappings; here they are served, and their requests sent once.
#[test]
fn what_is_wrong_in_a_retry_policy_is_told_on_the_mapping() {
    for (spec, field, cure, left) in [
        ("{num_retries: 2}", "retry_on", "is missing", None),
        (
            "{retry_on: gateway-eror}",
            "retry_on",
            "did you mean `gateway-error`?",
            None,
        ),
        (
            "{retry_on: \"5xx,connect-failure\"}",
            "retry_on",
            "write one of them",
            None,
        ),
        (
            "{retry_on: 5xx, num_retries: -1}",
            "num_retries",
            "must be from 0 to 100",
            policy(RetryOn::ServerError, 1, None),
        ),
        (
            "{retry_on: 5xx, num_retries: 101}",
            "num_retries",
            "must be from 0 to 100",
            policy(RetryOn::ServerError, 1, None),
        ),
        (
            "{retry_on: 5xx, per_try_timeout: soon}",
            "per_try_timeout",
            "such as 250ms or 1.5s",
            policy(RetryOn::ServerError, 1, None),
        ),
    ] {
        let world = world(&mapping("m", &format!("service: a; retry_policy: {spec}")));
        world.tells(
            Severity::Error,
            &format!("Mapping m spec.retry_policy.{field}"),
            cure,
        );
        assert_eq!(world.forward("m").retry, left, "{spec}");
    }
}

#[test]
fn the_modules_retry_policy_is_for_mappings_that_have_none() {
    let module = |policy: &str| {
        object(
            "Module",
            "ambassador",
            "default",
            &format!("config: {{retry_policy: {policy}}}"),
        )
    };
    let mappings = mapping("own", "service: a; retry_policy: {retry_on: retriable-4xx}")
        + &mapping("none", "service: b")
        + &mapping("off", "service: c; retry_policy: {retry_on: 5xx, num_retries: 0}");
    let good = world(&(module("{retry_on: 5xx, num_retries: 3}") + &mappings)).fine();
    assert_eq!(good.forward("own").retry, policy(RetryOn::Retriable4xx, 1, None));
    assert_eq!(good.forward("none").retry, policy(RetryOn::ServerError, 3, None));
    assert_eq!(good.forward("off").retry, None);
    let bad = world(&(module("{retry_on: never}") + &mappings));
    bad.tells(
        Severity::Error,
        "Module ambassador spec.config.retry_policy.retry_on",
        "write one of",
    );
    assert_eq!(bad.forward("none").retry, None);
}

/// B16: of the members of a group the last one's counts for all, and the Module's for none that has another.
#[test]
fn b16_a_retry_policy_is_the_groups() {
    let member = |name: &str, spec: &str| mapping(name, spec).replace(&format!("/{name}/"), "/g/");
    let manifests = object(
        "Module",
        "ambassador",
        "default",
        "config: {retry_policy: {retry_on: 5xx}}",
    ) + &member(
        "a",
        "service: a; weight: 50; retry_policy: {retry_on: connect-failure}",
    ) + &member("b", "service: b");
    let world = world(&manifests).fine();
    for name in ["a", "b"] {
        assert_eq!(
            world.forward(name).retry,
            policy(RetryOn::ConnectFailure, 1, None)
        );
    }
}

fn host(spec: &str, more: &str) -> String {
    let world = world(&(mapping("m", &format!("{spec}; auto_host_rewrite: true")) + more)).fine();
    let host = world.forward("m").host_rewrite.expect("a host is sent");
    host.to_str().expect("a name").to_owned()
}

#[test]
fn s15_the_host_is_that_by_which_the_endpoint_was_found() {
    for (service, expected) in [
        ("https://a.test:8443", "a.test"),
        ("https://A.test.", "a.test"),
        ("https://bücher.test", "xn--bcher-kva.test"),
        ("http://10.0.0.5", "10.0.0.5"),
        ("http://[2001:db8::1]:80", "[2001:db8::1]"),
    ] {
        assert_eq!(host(&format!("service: \"{service}\""), ""), expected);
    }
    let plain = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(host("service: svc", plain), "svc");
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {type: ExternalName, \
                    externalName: db.example.com}\n";
    assert_eq!(host("service: svc", external), "db.example.com");
}

#[test]
fn s15_the_server_name_stays_the_configured_one() {
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {type: ExternalName, \
                    externalName: db.example.com}\n";
    let world = world(&(mapping("m", "service: https://svc; auto_host_rewrite: true") + external)).fine();
    assert_eq!(world.sni("m").as_deref(), Some("svc"));
    assert_eq!(world.forward("m").host_rewrite.expect("a host"), "db.example.com");
}

#[test]
fn s15_auto_host_rewrite_off_is_no_rewrite() {
    let world = world(&mapping("m", "service: a; auto_host_rewrite: false")).fine();
    assert_eq!(world.forward("m").host_rewrite, None);
}

/// The reference's configuration is rejected as a whole then (G7).
#[test]
fn s15_two_ways_to_the_host_are_an_error_of_that_mapping() {
    let world = world(&mapping(
        "m",
        "service: a; host_rewrite: b; auto_host_rewrite: true",
    ));
    world.refuses("m", Reason::ServiceInvalid);
}

#[test]
fn s16_auto_sni_leaves_the_server_name_to_the_request() {
    let manifests = mapping("auto", "service: https://svc.test; tls: auto")
        + &context("auto", "auto_sni: true")
        + &mapping("named", "service: https://svc.test; tls: named")
        + &context("named", "auto_sni: true; verify: {names: [a.test]}")
        + &mapping("off", "service: https://svc.test; tls: off")
        + &context("off", "auto_sni: false; sni: c.test");
    let world = world(&manifests).fine();
    for (name, auto, sni, verified) in [
        ("auto", AutoSni::SentAndVerified, None, "svc.test"),
        ("named", AutoSni::Sent, None, "a.test"),
        ("off", AutoSni::Off, Some("c.test"), "c.test"),
    ] {
        assert_eq!(world.tls(name).auto_sni, auto, "{name}");
        assert_eq!(world.sni(name).as_deref(), sni, "{name}");
        assert_eq!(world.verify_names(name), [verified], "{name}");
    }
    let upstream = world.upstream("auto");
    let origins = upstream.origins.as_ref().expect("it speaks TLS");
    assert_eq!(origins.sni.to_string(), "TLSContext auto.default, spec.auto_sni");
    assert_eq!(origins.auto_sni.as_ref(), Some(&origins.sni));
}

/// An authority that is always the same is one name, and needs no pools by name.
#[test]
fn s16_an_authority_that_is_rewritten_is_known_beforehand() {
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {type: ExternalName, \
                    externalName: db.example.com}\n";
    let manifests = mapping("m", "service: https://svc; tls: ctx; host_rewrite: B.test:8443")
        + &mapping("auto", "service: https://svc; tls: ctx; auto_host_rewrite: true")
        + &context("ctx", "auto_sni: true");
    let world = world(&(manifests + external)).fine();
    for (mapping, name, field) in [
        ("m", "b.test", "spec.host_rewrite"),
        ("auto", "db.example.com", "spec.auto_host_rewrite"),
    ] {
        assert_eq!(world.tls(mapping).auto_sni, AutoSni::Off);
        assert_eq!(world.sni(mapping).as_deref(), Some(name));
        assert_eq!(world.verify_names(mapping), [name]);
        let upstream = world.upstream(mapping);
        let origins = upstream.origins.as_ref().expect("it speaks TLS");
        assert_eq!(
            origins.sni.to_string(),
            format!("Mapping {mapping}.default, {field}")
        );
    }
}

fn annotated(value: &str, spec: &str) -> String {
    let annotations = format!("  annotations: {{nuncio/auto-sni: \"{value}\"}}\n");
    let context = context("ctx", spec).replace("spec:", &format!("{annotations}spec:"));
    mapping("m", "service: https://svc.test; tls: ctx") + &context
}

/// Clusters that keep the reference's CRDs prune fields that these do not know.
#[test]
fn s16_auto_sni_may_be_an_annotation() {
    let on = world(&annotated("true", "min_tls_version: v1.2")).fine();
    assert_eq!(on.tls("m").auto_sni, AutoSni::SentAndVerified);
    let off = world(&annotated("false", "min_tls_version: v1.2")).fine();
    assert_eq!(off.tls("m").auto_sni, AutoSni::Off);
    let field = world(&annotated("true", "auto_sni: false"));
    assert_eq!(field.tls("m").auto_sni, AutoSni::Off);
    field.tells(
        Severity::Notice,
        "TLSContext ctx metadata.annotations",
        "has no effect",
    );
    let bad = world(&annotated("yes", "min_tls_version: v1.2"));
    assert_eq!(bad.unresolved("m").reason, Reason::TlsConfigUnresolved);
    bad.tells(
        Severity::Error,
        "TLSContext ctx metadata.annotations.nuncio/auto-sni",
        "write \"true\" or \"false\"",
    );
}

#[test]
fn s16_sni_and_auto_sni_contradict_each_other() {
    let manifests =
        mapping("m", "service: https://svc.test; tls: ctx") + &context("ctx", "auto_sni: true; sni: a");
    let both = world(&manifests);
    assert_eq!(both.unresolved("m").reason, Reason::TlsConfigUnresolved);
    both.tells(
        Severity::Error,
        "TLSContext ctx spec.auto_sni",
        "remove one of them",
    );
    let annotation = world(&annotated("true", "sni: a"));
    assert_eq!(annotation.unresolved("m").reason, Reason::TlsConfigUnresolved);
    annotation.tells(
        Severity::Error,
        "TLSContext ctx metadata.annotations.nuncio/auto-sni",
        "`spec.sni` sets one",
    );
}
