use nuncio_compile::Object;
use serde_json::json;

use super::*;

fn key(name: &str) -> Key {
    Key {
        namespace: "default".into(),
        name: name.into(),
    }
}

fn object(kind: &str, name: &str, content: &str) -> Heard {
    let known = &KINDS[number_of(kind)];
    let api_version = if known.is_ours() {
        "getambassador.io/v3alpha1"
    } else {
        "v1"
    };
    let document = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": {"prefix": content},
    });
    Heard::Object(Arc::new(Found {
        key: key(name),
        object: Object::from_document(document, None).unwrap(),
        uid: "uid".into(),
        generation: 1,
        status: None,
    }))
}

struct Told {
    store: Store,
}

impl Told {
    fn new() -> Self {
        Self {
            store: Store::of("default"),
        }
    }

    fn hear(&mut self, kind: &str, heard: Heard) -> bool {
        self.store.hear(number_of(kind), heard).any
    }

    fn list(&mut self, kind: &str, names: &[&str]) -> bool {
        let mut any = self.hear(kind, Heard::Begin);
        for name in names {
            any |= self.hear(kind, object(kind, name, "/"));
        }
        any | self.hear(kind, Heard::Complete)
    }
}

#[test]
fn g5_a_list_that_breaks_off_deletes_nothing() {
    let mut told = Told::new();
    told.list("Mapping", &["a", "b", "c"]);
    told.hear("Mapping", Heard::Begin);
    told.hear("Mapping", object("Mapping", "a", "/"));
    told.hear("Mapping", Heard::Trouble(Trouble::Failed("cut off".into())));
    assert_eq!(told.store.names("Mapping"), ["a", "b", "c"]);
    told.hear("Mapping", Heard::Begin);
    told.hear("Mapping", object("Mapping", "b", "/"));
    assert_eq!(told.store.names("Mapping"), ["a", "b", "c"]);
    assert!(told.hear("Mapping", Heard::Complete));
    assert_eq!(told.store.names("Mapping"), ["b"]);
}

#[test]
fn the_same_list_again_is_no_change() {
    let mut told = Told::new();
    assert!(told.list("Mapping", &["a", "b"]));
    assert!(!told.list("Mapping", &["b", "a"]));
    assert!(told.hear("Mapping", object("Mapping", "a", "/other")));
    assert!(!told.hear("Mapping", object("Mapping", "a", "/other")));
}

#[test]
fn nothing_is_complete_before_every_kind_has_answered() {
    let mut told = Told::new();
    let all = |_| true;
    for kind in &KINDS[1..] {
        told.list(kind.kind, &[]);
        assert!(!told.store.is_complete(all));
    }
    told.hear("Mapping", Heard::Begin);
    told.hear("Mapping", object("Mapping", "a", "/"));
    told.hear("Mapping", Heard::Trouble(Trouble::Failed("no answer".into())));
    assert!(!told.store.is_complete(all));
    told.list("Mapping", &["a"]);
    assert!(told.store.is_complete(all));
}

#[test]
fn a_kind_that_cannot_be_read_is_one_problem_until_it_can() {
    let mut told = Told::new();
    let forbidden = || Heard::Trouble(Trouble::Forbidden("no".into()));
    assert!(told.hear("Mapping", Heard::Trouble(Trouble::NotInstalled)));
    assert!(told.hear("Secret", forbidden()));
    assert!(!told.hear("Secret", forbidden()));
    let reasons: Vec<_> = told.store.objects.problems.iter().map(|p| &*p.reason).collect();
    assert_eq!(reasons, ["kind_not_installed", "kind_forbidden"]);
    assert!(told.list("Mapping", &[]));
    assert!(told.list("Secret", &[]));
    assert_eq!(told.store.objects.problems, []);
}

#[test]
fn a_kind_that_was_read_and_cannot_be_any_more_is_said_to_serve_on() {
    let mut told = Told::new();
    told.hear("Mapping", Heard::Trouble(Trouble::NotInstalled));
    let message = |told: &Told| told.store.objects.problems[0].message.clone();
    assert!(message(&told).contains("so no Mapping is read"));
    told.list("Mapping", &["a"]);
    for trouble in [Trouble::NotInstalled, Trouble::Forbidden("no".into())] {
        told.hear("Mapping", Heard::Trouble(trouble));
        let message = message(&told);
        assert!(
            message.contains("so what was read of them last stays in use"),
            "{message}"
        );
        assert_eq!(told.store.names("Mapping"), ["a"]);
    }
}

#[test]
fn what_is_for_another_gateway_is_neither_kept_nor_compiled() {
    let mut told = Told::new();
    told.list("Mapping", &["ours"]);
    let of = |id: &str, prefix: &str| {
        let Heard::Object(found) = object("Mapping", "a", prefix) else {
            unreachable!("it is an object");
        };
        let mut found = Arc::unwrap_or_clone(found);
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping", "metadata": {"name": "a"},
            "spec": {"prefix": prefix, "ambassador_id": [id]},
        });
        found.object = Object::from_document(document, None).unwrap();
        Heard::Object(Arc::new(found))
    };
    assert!(!told.hear("Mapping", of("other", "/")));
    assert!(!told.hear("Mapping", of("other", "/changed/")));
    assert_eq!(told.store.names("Mapping"), ["ours"]);
    assert!(told.hear("Mapping", of("default", "/")), "it is given to us");
    assert_eq!(told.store.names("Mapping"), ["a", "ours"]);
    assert!(told.hear("Mapping", of("other", "/")), "and taken away again");
    assert_eq!(told.store.names("Mapping"), ["ours"]);
    // One that was stored as v2 by mistake is told, whoever it is for.
    assert!(told.hear("Mapping", of("--apiVersion-v3alpha1-only--default", "/")));
    assert_eq!(told.store.names("Mapping"), ["a", "ours"]);
}

#[test]
fn only_secrets_that_are_named_are_kept() {
    let mut told = Told::new();
    told.store.name_secrets(HashSet::from([key("named")]));
    told.list("Secret", &["named", "other"]);
    assert_eq!(told.store.names("Secret"), ["named"]);
    assert!(!told.hear("Secret", object("Secret", "other", "changed")));
    // Named later, it is to be read; once it is there it is kept.
    assert_eq!(
        told.store
            .name_secrets(HashSet::from([key("other"), key("absent")])),
        [key("other")]
    );
    assert_eq!(told.store.names("Secret"), [""; 0]);
    assert!(told.hear("Secret", object("Secret", "other", "changed")));
    assert_eq!(told.store.names("Secret"), ["other"]);
    assert_eq!(told.store.name_secrets(HashSet::from([key("other")])), []);
}

#[test]
fn positions_stay_right_when_objects_leave() {
    let mut told = Told::new();
    told.list("Mapping", &["a", "b", "c", "d"]);
    for name in ["a", "c"] {
        assert!(told.hear("Mapping", Heard::Gone(key(name))));
        assert!(!told.hear("Mapping", Heard::Gone(key(name))));
    }
    assert!(told.hear("Mapping", object("Mapping", "d", "/new")));
    assert!(told.hear("Mapping", object("Mapping", "b", "/new")));
    assert_eq!(told.store.names("Mapping"), ["b", "d"]);
    assert!(
        told.store
            .version(&ObjectRef::new("Mapping", "default", "d"))
            .is_some()
    );
    assert!(
        told.store
            .version(&ObjectRef::new("Mapping", "default", "a"))
            .is_none()
    );
}

#[test]
fn an_unreadable_object_keeps_what_it_held() {
    let mut told = Told::new();
    told.list("Mapping", &["a"]);
    let problem = kind_problem(Severity::Error, "not_an_object", "no".into());
    assert!(told.hear("Mapping", Heard::Unreadable(key("a"), Box::new(problem.clone()))));
    assert!(!told.hear("Mapping", Heard::Unreadable(key("a"), Box::new(problem.clone()))));
    assert_eq!(
        (told.store.names("Mapping"), told.store.objects.problems.len()),
        (vec!["a".to_owned()], 1)
    );
    assert!(told.hear("Mapping", object("Mapping", "a", "/")));
    assert_eq!(told.store.objects.problems, []);
}

#[test]
fn k14_secrets_of_a_namespace_come_and_go_by_themselves() {
    let mut told = Told::new();
    let in_namespace = |namespace: &str, heard: Heard| Heard::Within(namespace.into(), Box::new(heard));
    let forbidden = || Heard::Trouble(Trouble::Forbidden("no".into()));
    told.store.name_secrets(HashSet::from([key("a"), key("b")]));
    told.list("Secret", &["a", "b"]);
    told.hear("Secret", forbidden());
    assert!(told.store.must_ask_namespaces());
    assert_eq!(told.store.named_namespaces(), BTreeSet::from(["default".into()]));
    told.store
        .ask_namespaces(&BTreeSet::from(["default".into(), "z".into()]));
    let secrets = |kind: usize| kind == number_of("Secret");
    assert!(!told.store.is_complete(secrets), "each namespace has to answer");
    assert_eq!(told.store.names("Secret"), ["a", "b"], "what is known stays");

    told.hear("Secret", in_namespace("z", forbidden()));
    told.hear("Secret", in_namespace("default", Heard::Begin));
    told.hear("Secret", object("Secret", "b", "/"));
    assert!(told.hear("Secret", in_namespace("default", Heard::Complete)));
    assert!(told.store.is_complete(secrets));
    assert_eq!(
        told.store.names("Secret"),
        ["b"],
        "a list of the namespace counts in it"
    );
    assert_eq!(
        told.store.objects.forbidden_secrets,
        BTreeSet::from(["z".to_owned()])
    );
    assert!(
        told.store.objects.problems.is_empty(),
        "who refers into z is told"
    );

    told.hear("Secret", in_namespace("z", Heard::Begin));
    assert!(told.hear("Secret", in_namespace("z", Heard::Complete)));
    assert!(told.store.objects.forbidden_secrets.is_empty());
    assert_eq!(told.store.names("Secret"), ["b"], "and in no other");
    assert!(!told.hear("Secret", in_namespace("unasked", forbidden())));
}

#[test]
fn an_account_without_any_right_has_no_configuration() {
    let mut told = Told::new();
    for kind in ["Mapping", "Listener"] {
        assert!(!told.store.is_blind());
        told.hear(kind, Heard::Trouble(Trouble::Forbidden("no".into())));
    }
    assert!(told.store.is_blind());
    told.list("Mapping", &[]);
    assert!(!told.store.is_blind());
}

fn slice(address: &str, service: &str) -> Heard {
    let document = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "svc-1", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": 8443}],
    });
    Heard::Object(Arc::new(Found {
        key: key("svc-1"),
        object: Object::from_document(document, None).unwrap(),
        uid: "uid".into(),
        generation: 1,
        status: None,
    }))
}

#[test]
fn other_addresses_are_nothing_to_compile() {
    let mut told = Told::new();
    assert!(told.hear("EndpointSlice", slice("10.0.0.1", "svc")));
    assert!(!told.hear("EndpointSlice", slice("10.0.0.2", "svc")));
    let kept = &told.store.objects.objects[0];
    let Heard::Object(wanted) = slice("10.0.0.2", "svc") else {
        panic!("it can be read");
    };
    assert_eq!(*kept, wanted.object, "the next compile has them all the same");
    assert!(
        told.hear("EndpointSlice", slice("10.0.0.2", "other")),
        "another Service"
    );
    assert!(
        told.hear("EndpointSlice", slice("nowhere", "other")),
        "a problem to tell"
    );
    assert!(
        told.hear("EndpointSlice", slice("10.0.0.3", "other")),
        "and its end"
    );
}

/// An API server that begins, or a binding that comes after the pod, refuses everything for a while.
#[test]
fn what_was_refused_while_everything_was_is_asked_once_more() {
    let forbidden = || Heard::Trouble(Trouble::Forbidden("not yet".into()));
    let mut told = Told::new();
    for kind in ["Mapping", "TLSContext", "Listener"] {
        told.hear(kind, forbidden());
    }
    let matter = [
        number_of("Mapping"),
        number_of("TLSContext"),
        number_of("Listener"),
    ];
    let is_complete = |told: &Told| told.store.is_complete(|kind| matter.contains(&kind));
    assert!(is_complete(&told) && told.store.is_blind());
    told.list("Mapping", &["m"]);
    told.list("Listener", &["l"]);
    assert!(!told.store.is_blind());
    assert!(!is_complete(&told), "the refusal of TLSContexts is from then");
    told.hear("TLSContext", forbidden());
    assert!(is_complete(&told), "it stands");
}

#[test]
fn names_are_looked_for_again_when_something_that_names_changes() {
    let mut told = Told::new();
    assert!(told.store.take_names_changed(), "at first");
    told.hear("Mapping", object("Mapping", "m", "/"));
    assert!(!told.store.take_names_changed());
    told.hear("TLSContext", object("TLSContext", "c", "/"));
    assert!(told.store.take_names_changed());
    assert!(!told.store.take_names_changed());
    told.hear("TLSContext", Heard::Gone(key("c")));
    assert!(told.store.take_names_changed());
}
