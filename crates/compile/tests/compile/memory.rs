//! What a compile keeps for the next changes nothing about what the next gives (row G3).

use nuncio_compile::{LastGood, Object, Objects, compile};
use nuncio_model::{EndpointTable, Snapshot};
use serde_json::{Value, json};

use crate::material::{authority, authority_until, tls_secret};
use crate::world::{objects, options};

const EDITS: usize = 10_000;
/// A compile from scratch after every so many; the others build on one another.
const STRIDE: usize = 25;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("it is well made")
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

fn ours(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": kind, "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": spec,
    })
}

/// A Mapping that may share its group, its upstream and its name's place with others, or be wrong.
fn mapping(dice: &mut Dice) -> Value {
    let mut spec = json!({
        "prefix": format!("/{}/", dice.below(12)),
        "service": format!(
            "{}svc-{}{}",
            dice.one_of(&["", "http://", "https://", "ftp://"]),
            dice.below(6),
            dice.one_of(&["", "", ":443", ":8443", ".elsewhere", ":99999"])
        ),
    });
    let fields = [
        ("tls", dice.one_of(&["plain", "strict", "missing"])),
        ("hostname", dice.one_of(&["*", "a.example", "*.example"])),
        ("hostname", "*"),
        ("resolver", dice.one_of(&["endpoint", "own", "nowhere"])),
        ("host_rewrite", dice.one_of(&["b.example", "not a host"])),
        ("no_such_field", "1"),
    ];
    for (field, value) in fields {
        if dice.below(3) == 0 {
            spec[field] = value.into();
        }
    }
    match dice.below(6) {
        0 => spec["weight"] = dice.below(120).into(),
        1 => spec["connect_timeout_ms"] = 2000.into(),
        2 => spec["timeout_ms"] = "soon".into(),
        3 => spec["retry_policy"] = json!({"retry_on": "5xx", "num_retries": dice.below(3)}),
        _ => {}
    }
    ours("Mapping", &format!("m{}", dice.below(30)), &spec)
}

/// Contexts and their Secrets are never broken and never go: what served before would serve on then, as it should.
fn context(dice: &mut Dice, name: &str) -> Value {
    let mut spec = json!({
        "sni": dice.one_of(&["a.example", "b.example"]), "min_tls_version": dice.one_of(&["v1.2", "v1.3"]),
        "verify": {"mode": dice.one_of(&["none", "report"])},
    });
    if dice.below(2) == 0 {
        spec["secret"] = dice.one_of(&["one", "other"]).into();
    }
    if dice.below(3) == 0 {
        // Something to be told of it.
        spec["hosts"] = json!(["a.example"]);
    }
    ours("TLSContext", name, &spec)
}

/// Secrets that hold the same or something else, something to be told of among it.
fn secrets() -> Vec<Object> {
    let pairs = [
        authority("a").leaf("a.example"),
        authority("b").leaf("b.example"),
        authority_until("old", (2026, 1, 2)).leaf("old.example"),
    ];
    let names = ["one", "other"];
    let manifests = names
        .iter()
        .flat_map(|name| pairs.iter().map(|pair| tls_secret(name, "default", pair)));
    manifests
        .flat_map(|manifest| objects(&manifest).objects)
        .collect()
}

fn others(dice: &mut Dice) -> Value {
    let name = format!("svc-{}", dice.below(6));
    match dice.below(7) {
        0 => context(dice, "plain"),
        1 => context(dice, "strict"),
        2 => json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}, {"port": dice.one_of(&["443", "8443"]).parse::<u16>().expect("it is well made")}]},
        }),
        3 => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [dice.one_of(&["10.1.0.1", "10.1.0.2", "nonsense"])]}],
            "ports": [{"port": 80}],
        }),
        4 => ours(
            "Module",
            "ambassador",
            &json!({"config": {
                "resolver": dice.one_of(&["endpoint", "own"]), "cluster_request_timeout_ms": 1000 + dice.below(2) * 500,
            }}),
        ),
        5 => ours("KubernetesEndpointResolver", "own", &json!({})),
        _ => ours(
            "Host",
            "h",
            &json!({"hostname": dice.one_of(&["a.example", "*"]), "mappingSelector": {"matchLabels": {
                "a": dice.one_of(&["b", "c"]),
            }}}),
        ),
    }
}

/// Puts an object there, changes it or takes it away.
fn edit(objects: &mut Objects, secrets: &[Object], dice: &mut Dice) {
    let object = match dice.below(16) {
        0 => secrets[dice.below(secrets.len())].clone(),
        1..=4 => read(others(dice)),
        _ => read(mapping(dice)),
    };
    let at = objects
        .objects
        .iter()
        .position(|known| known.reference == object.reference);
    match at {
        Some(at) if dice.below(3) == 0 && !["TLSContext", "Secret"].contains(&&*object.kind) => {
            objects.objects.swap_remove(at);
        }
        Some(at) => objects.objects[at] = object,
        None => objects.objects.push(object),
    }
}

fn read(document: Value) -> Object {
    Object::from_document(document, None).expect("it has a head")
}

fn said((snapshot, endpoints): (&Snapshot, &EndpointTable)) -> String {
    let Snapshot {
        listeners,
        guards,
        upstreams,
        certificates,
        problems,
        settings,
        ..
    } = snapshot;
    let mut services: Vec<_> = endpoints.services.iter().collect();
    services.sort();
    format!(
        "{listeners:#?}\n{guards:#?}\n{upstreams:#?}\n{certificates:#?}\n{problems:#?}\n{settings:#?}\n{services:#?}"
    )
}

#[test]
fn g3_what_is_kept_between_ten_thousand_compiles_changes_none_of_them() {
    let mut dice = Dice(0x6e75_6e63_696f);
    let secrets = secrets();
    let mut objects = Objects::default();
    objects.objects.extend([secrets[0].clone(), secrets[3].clone()]);
    for name in ["plain", "strict"] {
        objects.objects.push(read(context(&mut dice, name)));
    }
    let mut kept = LastGood::default();
    for count in 0..EDITS {
        edit(&mut objects, &secrets, &mut dice);
        let with = compile(&objects, &options(), &kept);
        if count % STRIDE == 0 {
            let without = compile(&objects, &options(), &LastGood::default());
            let (with, without) = (
                (&with.snapshot, &with.endpoints),
                (&without.snapshot, &without.endpoints),
            );
            assert!(said(with) == said(without), "after edit {count}");
        }
        kept = with.last_good;
    }
}

#[test]
fn g2_what_did_not_change_is_the_same_object_after_an_edit() {
    let mut dice = Dice(7);
    let mut objects = Objects::default();
    let document = |name: &str, rewrite: &str| {
        let spec =
            json!({"hostname": "*", "prefix": format!("/{name}/"), "service": name, "rewrite": rewrite});
        read(ours("Mapping", name, &spec))
    };
    objects
        .objects
        .extend((0..20).map(|number| document(&format!("m{number:02}"), "/")));
    let before = compile(&objects, &options(), &LastGood::default());
    let edited = dice.below(20);
    objects.objects[edited] = document(&format!("m{edited:02}"), "/other/");
    let after = compile(&objects, &options(), &before.last_good);
    let routes = |snapshot: &Snapshot| {
        let host = &snapshot.listeners[0].hosts.hosts()[0];
        host.routes.routes().to_vec()
    };
    let (old, new) = (routes(&before.snapshot), routes(&after.snapshot));
    let kept = new
        .iter()
        .filter(|route| old.iter().any(|old| std::sync::Arc::ptr_eq(old, route)));
    assert_eq!(kept.count(), 19);
}
