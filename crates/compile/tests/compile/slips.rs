//! Slips in `service`, and misspelt fields that protect something: neither leaves the protection out.

use nuncio_model::{Reason, Severity};

use crate::world::{World, context, mapping, world};

fn served(spec: &str) -> World {
    world(&mapping("m", spec))
}

/// Each would be cleartext to a host that nobody meant.
#[test]
fn a_slip_in_the_scheme_is_service_invalid() {
    for (service, spelling) in [
        ("https:/svc", "write `https://svc`"),
        ("https//svc:8443", "write `https://svc:8443`"),
        ("https:8443", "write `https://HOST:8443`"),
        ("//svc:443", "write `https://svc:443`"),
        ("http://https://svc", "write `https://svc`"),
        ("svc:0", "port 0"),
        ("https", "name of a scheme"),
        ("wss://svc", "write `https://svc`"),
    ] {
        let world = served(&format!("service: \"{service}\""));
        world.refuses("m", Reason::ServiceInvalid);
        world.tells(Severity::Error, "Mapping m spec.service", spelling);
    }
}

#[test]
fn a_slip_beside_a_context_is_service_invalid() {
    let world = world(&(context("ctx", "sni: a.test") + &mapping("m", "service: https:/svc; tls: ctx")));
    world.refuses("m", Reason::ServiceInvalid);
}

#[test]
fn a_url_as_host_rewrite_is_refused() {
    for text in [
        "https://b.test",
        "b.test/",
        "https:/b.test/path",
        "//b.test",
        "' b.test'",
    ] {
        let world = served(&format!("service: https://svc; host_rewrite: {text}"));
        world.refuses("m", Reason::ServiceInvalid);
        world.tells(Severity::Error, "Mapping m spec.host_rewrite", "write `b.test`");
    }
}

#[test]
fn credentials_in_a_service_are_not_repeated() {
    for service in [
        "https://me:secret@svc",
        "https:/me:secret@svc",
        "me:secret@svc:99999",
    ] {
        let world = served(&format!("service: {service}"));
        assert!(!world.problems().is_empty());
        for problem in world.problems() {
            assert!(!problem.message.contains("secret"), "{}", problem.message);
        }
    }
}

/// A Mapping that loses its TLSContext, or what narrows its requests down, to a slip must not go on without.
#[test]
fn a_misspelt_field_that_protects_is_not_left_out() {
    for (spec, hint) in [
        ("tsl: ctx", "did you mean `tls`?"),
        ("TLS: ctx", "did you mean `tls`?"),
        ("tls_context: ctx", "write the name of the TLSContext into `tls`"),
        ("tlsContext: ctx", "write the name of the TLSContext into `tls`"),
        ("ca_secret: ca", "name that in `tls`"),
        ("verify: {mode: full}", "name that in `tls`"),
        ("sni: a.test", "name that in `tls`"),
    ] {
        let world = served(&format!("service: https://svc; {spec}"));
        world.refuses("m", Reason::TlsConfigUnresolved);
        world.tells(Severity::Error, "Mapping m spec", hint);
    }
    let beside = world(&(mapping("m", "service: https://svc") + "tls: ctx\n"));
    beside.refuses("m", Reason::TlsConfigUnresolved);
    beside.tells(Severity::Error, "Mapping m tls", "write it under `spec`");
    for spec in ["headrs: {x-internal: '1'}", "methd: GET", "query_params: {a: b}"] {
        let world = served(&format!("service: https://svc; {spec}"));
        assert!(world.order().is_empty(), "{spec}");
        world.tells(Severity::Error, "Mapping m spec", "the Mapping has no route");
    }
    let harmless = served("service: https://svc; timeout_sm: 5");
    harmless.tls("m");
    harmless.tells(
        Severity::Warning,
        "Mapping m spec.timeout_sm",
        "did you mean `timeout_ms`?",
    );
}

#[test]
fn an_empty_tls_and_an_annotation_of_no_effect_are_warnings() {
    let world = world(&mapping("m", "service: https://svc; tls: \"\""));
    world.tells(
        Severity::Warning,
        "Mapping m spec.tls",
        "is empty and names no TLSContext",
    );
    let annotated = mapping("m", "service: https://svc").replace(
        "  name: m\n",
        "  name: m\n  annotations: {nuncio/verify-mode: full, other.test/nuncio: x}\n",
    );
    let world = self::world(&annotated);
    world.tells(
        Severity::Warning,
        "Mapping m metadata.annotations.nuncio/verify-mode",
        "has no effect",
    );
    assert_eq!(world.told(Severity::Warning).len(), 1);
}
