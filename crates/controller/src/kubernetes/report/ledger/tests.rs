use serde_json::json;

use super::*;
use crate::kubernetes::follow::Heard;
use crate::kubernetes::found::Found;

/// A cluster in which a gateway of the id `blue` looks around.
struct World {
    store: Store,
    ledger: Ledger,
    options: Options,
    problems: Vec<Problem>,
    mappings: bool,
    closed: Vec<&'static str>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            store: Store::of("blue"),
            ledger: Ledger::default(),
            options: Options {
                ambassador_id: "blue".into(),
                ..Options::default()
            },
            problems: Vec::new(),
            mappings: true,
            closed: Vec::new(),
            now: Instant::now(),
        }
    }

    /// The API server shows an object; says whether there is something to compile.
    fn show(&mut self, kind: &str, name: &str, id: &str, uid: &str, status: &Value) -> bool {
        let number = number_of(kind);
        let object = serde_json::from_value(json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": 1},
            "spec": {"ambassador_id": [id]}, "status": status,
        }))
        .unwrap();
        let heard: Heard = Found::heard(object, &KINDS[number]);
        self.store.hear(number, heard).any
    }

    fn compile(&mut self) {
        self.store.note_compiled();
    }

    fn look(&mut self) -> Look {
        let sight = Sight {
            options: &self.options,
            problems: &self.problems,
            live: &[],
            guarded: &[],
            handshakes: &Handshakes::default(),
            mappings: self.mappings,
            closed: &self.closed,
            now: self.now,
            stamp: "2026-01-02T03:04:05Z",
        };
        self.ledger.look(&mut self.store, &sight)
    }

    /// Writes what there is to write, as a server that takes all would have it; the names.
    fn write(&mut self) -> Vec<String> {
        let look = self.look();
        for draft in &look.drafts {
            self.ledger.note(draft, self.now);
        }
        let names = look.drafts.iter().map(|draft| draft.object.to_string());
        names.collect()
    }

    fn fail(&mut self, kind: &str, name: &str) {
        self.problems.push(Problem {
            severity: Severity::Error,
            reason: "bad_value".into(),
            message: "it is bad".into(),
            object: Some(ObjectRef::new(kind, "default", name)),
            field: None,
            place: None,
        });
    }
}

#[test]
fn each_object_of_this_gateway_is_told_once() {
    let mut world = World::new();
    world.show("Mapping", "ours", "blue", "1", &Value::Null);
    world.show("Mapping", "theirs", "green", "2", &Value::Null);
    world.show("TLSContext", "ours", "blue", "3", &Value::Null);
    world.show("Module", "other", "blue", "4", &Value::Null);
    assert_eq!(world.write(), [""; 0], "nothing is known before a compile");
    world.compile();
    assert_eq!(world.write(), ["Mapping ours.default", "TLSContext ours.default"]);
    assert_eq!(world.write(), [""; 0]);
}

#[test]
fn what_the_server_shows_of_our_own_status_is_no_change() {
    let mut world = World::new();
    assert!(world.show("Mapping", "m", "blue", "1", &Value::Null));
    world.compile();
    let look = world.look();
    assert!(!world.show("Mapping", "m", "blue", "1", &look.drafts[0].status));
    // A gateway that takes over has nothing to write either.
    world.ledger = Ledger::default();
    assert_eq!(world.write(), [""; 0]);
}

#[test]
fn mappings_and_closed_kinds_are_left_alone() {
    let mut world = World::new();
    world.show("Mapping", "m", "blue", "1", &Value::Null);
    world.show("Host", "h", "blue", "2", &Value::Null);
    world.compile();
    world.mappings = false;
    world.closed = vec!["Host"];
    assert_eq!(world.write(), [""; 0]);
    world.closed.clear();
    assert_eq!(world.write(), ["Host h.default"]);
}

#[test]
fn a_status_that_changes_fast_is_written_every_so_often_with_its_latest() {
    let mut world = World::new();
    world.show("Mapping", "m", "blue", "1", &Value::Null);
    world.compile();
    assert_eq!(world.write(), ["Mapping m.default"]);
    world.fail("Mapping", "m");
    let look = world.look();
    assert!(look.drafts.is_empty() && look.more);
    world.now += REST;
    let look = world.look();
    assert_eq!(look.drafts[0].status["state"], "Inactive");
    assert!(!look.more);
}

#[test]
fn an_object_that_was_deleted_and_made_again_is_told_anew() {
    let mut world = World::new();
    world.show("Mapping", "m", "blue", "1", &Value::Null);
    world.compile();
    assert_eq!(world.write().len(), 1);
    assert!(
        world.show("Mapping", "m", "blue", "2", &Value::Null),
        "it is another"
    );
    assert_eq!(world.write(), [""; 0], "and no compile has seen it");
    world.compile();
    assert_eq!(world.write().len(), 1);
}

#[test]
fn drafts_have_a_bound_and_the_rest_follows() {
    let mut world = World::new();
    for number in 0..DRAFTS + 10 {
        let name = format!("m{number}");
        world.show("Mapping", &name, "blue", &name, &Value::Null);
    }
    world.compile();
    let look = world.look();
    assert!(look.drafts.len() == DRAFTS && look.more);
    assert_eq!(world.write().len(), DRAFTS);
    assert_eq!(world.write().len(), 10);
}

#[test]
fn problems_of_objects_that_are_there_are_matters() {
    let mut world = World::new();
    world.show("Mapping", "m", "blue", "1", &Value::Null);
    world.compile();
    world.fail("Mapping", "m");
    world.fail("Mapping", "of-an-annotation");
    let look = world.look();
    assert_eq!(look.matters.len(), 1);
    assert_eq!(&*look.matters[0].uid, "1");
    assert_eq!(look.matters[0].api_version, "getambassador.io/v3alpha1");
}

#[test]
fn one_that_cannot_be_written_waits_longer_each_time_and_holds_up_no_other() {
    let mut world = World::new();
    world.show("Mapping", "bad", "blue", "1", &Value::Null);
    world.show("Mapping", "good", "blue", "2", &Value::Null);
    world.compile();
    let bad = world.look().drafts.remove(0);
    assert_eq!(&*bad.object.name, "bad");
    assert!(world.ledger.postpone(&bad, world.now), "for the first time");
    let look = world.look();
    assert!(look.more, "it is not forgotten");
    assert_eq!(world.write(), ["Mapping good.default"]);
    world.now += RETRY;
    assert_eq!(world.look().drafts.len(), 1);
    assert!(!world.ledger.postpone(&bad, world.now), "again");
    world.now += RETRY;
    assert_eq!(world.look().drafts.len(), 0, "twice as long");
    world.now += RETRY;
    assert_eq!(world.write(), ["Mapping bad.default"]);
    assert!(!world.look().more);
}
