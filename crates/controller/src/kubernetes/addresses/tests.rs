use nuncio_compile::Object;
use serde_json::{Value, json};

use super::super::found::Found;
use super::super::kinds::number_of;
use super::*;

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"},
        "spec": {"ports": [{"port": 443, "targetPort": 8443}]},
    })
}

fn slice(name: &str, service: &str, address: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "a", "labels": {SERVICE_NAME: service}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
        "ports": [{"port": 8443}],
    })
}

struct Told {
    addresses: Addresses,
    touched: HashSet<Key>,
}

impl Told {
    /// Everything has answered with these.
    fn new(objects: &[Value]) -> Self {
        let mut told = Self {
            addresses: Addresses::default(),
            touched: HashSet::new(),
        };
        for kind in ["Service", SLICE] {
            told.hear(kind, Heard::Begin);
            for object in objects.iter().filter(|object| object["kind"] == kind) {
                told.put(object);
            }
            told.hear(kind, Heard::Complete);
        }
        told
    }

    fn hear(&mut self, kind: &str, heard: Heard) {
        self.addresses.hear(number_of(kind), heard, &mut self.touched);
    }

    fn put(&mut self, document: &Value) {
        let object = Object::from_document(document.clone(), None).unwrap();
        let key = key(&object.reference.name);
        let kind = object.kind.clone();
        let found = Found {
            key,
            object,
            uid: "".into(),
            generation: 0,
            status: None,
        };
        self.hear(&kind, Heard::Object(Arc::new(found)));
    }

    /// Whether the table changed, and the addresses of `svc` in it.
    fn table(&mut self) -> (bool, Vec<String>) {
        let changed = self
            .addresses
            .update(std::mem::take(&mut self.touched), &Options::default());
        let key = ServiceKey {
            namespace: "a".into(),
            name: "svc".into(),
            port: 443,
        };
        let addresses = self.addresses.table.addresses(&key);
        (changed, addresses.iter().map(ToString::to_string).collect())
    }
}

fn key(name: &str) -> Key {
    Key {
        namespace: "a".into(),
        name: name.into(),
    }
}

#[test]
fn a_change_of_one_service_is_the_whole_change() {
    let mut told = Told::new(&[
        service("svc"),
        slice("s1", "svc", "10.0.0.1", true),
        service("other"),
    ]);
    assert!(told.addresses.is_complete());
    assert_eq!(told.table(), (true, vec!["10.0.0.1:8443".to_owned()]));
    told.put(&slice("s2", "svc", "10.0.0.2", true));
    assert_eq!(told.touched, HashSet::from([key("svc")]));
    let (changed, mut addresses) = told.table();
    addresses.sort();
    assert!(changed);
    assert_eq!(addresses, ["10.0.0.1:8443", "10.0.0.2:8443"]);
    told.put(&slice("s2", "svc", "10.0.0.2", true));
    assert_eq!(told.touched, HashSet::new());
}

#[test]
fn endpoints_that_go_are_gone_and_nothing_else() {
    let mut told = Told::new(&[
        service("svc"),
        slice("s1", "svc", "10.0.0.1", true),
        slice("s2", "svc", "10.0.0.2", true),
    ]);
    told.table();
    told.hear(SLICE, Heard::Gone(key("s1")));
    assert_eq!(told.table(), (true, vec!["10.0.0.2:8443".to_owned()]));
    // A slice that goes over to another Service leaves this one.
    told.put(&slice("s2", "other", "10.0.0.2", true));
    assert_eq!(told.table(), (true, vec![]));
}

#[test]
fn a_list_that_breaks_off_takes_no_address_away() {
    let mut told = Told::new(&[service("svc"), slice("s1", "svc", "10.0.0.1", true)]);
    told.table();
    told.hear(SLICE, Heard::Begin);
    told.hear(
        SLICE,
        Heard::Trouble(super::super::follow::Trouble::Failed("cut off".into())),
    );
    assert_eq!(told.table(), (false, vec!["10.0.0.1:8443".to_owned()]));
    told.hear(SLICE, Heard::Begin);
    told.hear(SLICE, Heard::Complete);
    assert_eq!(told.table(), (true, vec![]));
}

#[test]
fn endpoints_are_waited_for_where_there_are_no_slices() {
    let mut told = Told::new(&[service("svc")]);
    let no_slices = super::super::follow::Trouble::NotInstalled;
    told.hear(SLICE, Heard::Trouble(no_slices));
    assert!(!told.addresses.is_complete());
    told.hear("Endpoints", Heard::Begin);
    told.hear("Endpoints", Heard::Complete);
    assert!(told.addresses.is_complete());
}
