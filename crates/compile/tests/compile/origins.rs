//! Where the settings of an upstream came from, for each of the Mappings that share it.

use nuncio_model::{ObjectRef, TlsOrigins};

use crate::world::{World, context, mapping, world};

fn origins(world: &World, name: &str) -> TlsOrigins {
    let mapping = ObjectRef::new("Mapping", "default", name);
    let origins = world.upstream(name).origins_of(&mapping);
    origins.expect("the upstream speaks TLS")
}

/// Three say the same of themselves, one names a TLSContext that changes nothing, one rewrites to the same name.
fn shared() -> String {
    mapping("m1", "service: https://a.test")
        + &mapping("m2", "service: https://a.test")
        + &mapping("m3", "service: https://a.test; tls: ctx")
        + &mapping("m4", "service: https://a.test; tls: ctx")
        + &mapping("m5", "service: https://a.test")
        + &context("ctx", "min_tls_version: v1.2")
}

#[test]
fn each_mapping_of_an_upstream_is_told_its_own_fields() {
    let world = world(&shared()).fine();
    assert_eq!(world.output.snapshot.upstreams.len(), 1);
    for (name, min) in [
        ("m1", "built-in default"),
        ("m2", "built-in default"),
        ("m3", "TLSContext ctx.default, spec.min_tls_version"),
        ("m4", "TLSContext ctx.default, spec.min_tls_version"),
        ("m5", "built-in default"),
    ] {
        let told = origins(&world, name);
        let service = format!("Mapping {name}.default, spec.service");
        assert_eq!(
            (
                told.enabled.to_string(),
                told.sni.to_string(),
                told.min_version.to_string()
            ),
            (service.clone(), service, min.to_owned())
        );
    }
}

#[test]
fn what_is_told_alike_is_kept_once() {
    let upstream = world(&shared()).upstream("m1");
    let names: Vec<Vec<&str>> = upstream
        .other_origins
        .iter()
        .map(|other| other.mappings.iter().map(|mapping| &*mapping.name).collect())
        .collect();
    assert_eq!(names, [["m3", "m4"]]);
    assert_eq!(upstream.mappings.len(), 5);
}

#[test]
fn an_upstream_is_stale_if_any_of_its_contexts_is() {
    let good = world(&shared()).fine();
    assert!(!good.upstream("m1").is_stale());
    let broken = good.then(&shared().replace("v1.2", "v9"));
    assert!(broken.upstream("m1").is_stale());
    assert_eq!(
        (origins(&broken, "m1").stale, origins(&broken, "m4").stale),
        (false, true)
    );
}
