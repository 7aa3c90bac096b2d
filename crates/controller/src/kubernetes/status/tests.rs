use nuncio_model::ObjectRef;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T04:04:05Z";

fn error(field: &str, reason: &'static str, message: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        reason: reason.into(),
        message: message.to_owned(),
        object: Some(ObjectRef::new("TLSContext", "default", "context")),
        field: Some(field.to_owned()),
        place: None,
    }
}

/// What is wanted of an object that has this status so far.
fn wanted_after(
    kind: &str,
    generation: i64,
    errors: &[Problem],
    handshakes: Option<&Condition>,
    has: Option<&Value>,
    now: &str,
) -> Option<Value> {
    let errors: Vec<_> = errors.iter().collect();
    let has = has.and_then(|status| seen(kind, status));
    let subject = Subject {
        kind,
        generation,
        errors: &errors,
        has: has.as_deref(),
    };
    wanted(&subject, handshakes, now)
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array().unwrap();
    all.iter().find(|condition| condition["type"] == kind).unwrap()
}

fn failed() -> Condition {
    Condition {
        status: "False",
        reason: "unknown_ca".into(),
        message: "who signed it is not known".into(),
    }
}

#[test]
fn a_mapping_has_the_state_and_the_first_error_with_its_rest() {
    let running = wanted_after("Mapping", 1, &[], None, None, NOW).unwrap();
    assert_eq!(running, json!({"state": "Running"}));
    assert_eq!(wanted_after("Mapping", 2, &[], None, Some(&running), LATER), None);
    let one = [error("spec.service", "service_invalid", "it is bad")];
    let inactive = wanted_after("Mapping", 1, &one, None, Some(&running), NOW).unwrap();
    assert_eq!(inactive, json!({"state": "Inactive", "reason": "it is bad"}));
    let two = [one[0].clone(), error("spec.tls", "stale", "so is this")];
    let more = wanted_after("Mapping", 1, &two, None, Some(&inactive), NOW).unwrap();
    assert_eq!(more["reason"], "it is bad (and more)");
}

#[test]
fn a_reason_that_another_program_left_goes_with_its_cause() {
    let left = json!({"state": "Inactive", "reason": "old"});
    let running = wanted_after("Mapping", 1, &[], None, Some(&left), NOW).unwrap();
    assert_eq!(running, json!({"state": "Running", "reason": ""}));
    assert_eq!(wanted_after("Mapping", 1, &[], None, Some(&running), NOW), None);
}

#[test]
fn only_an_error_about_a_reference_makes_it_unresolved() {
    for (field, resolved) in [
        ("spec.secret", "False"),
        ("spec.tls.ca_secret", "False"),
        ("spec.tlsSecret.name", "False"),
        ("spec.secretly", "True"),
        ("spec.min_tls_version", "True"),
    ] {
        let errors = [error(field, "bad_value", "it is bad")];
        let status = wanted_after("TLSContext", 3, &errors, None, None, NOW).unwrap();
        assert_eq!(condition(&status, ACCEPTED)["status"], "False", "{field}");
        assert_eq!(condition(&status, RESOLVED)["status"], resolved, "{field}");
        assert_eq!(condition(&status, ACCEPTED)["observedGeneration"], 3);
    }
}

#[test]
fn the_cause_is_told_and_not_that_the_last_good_one_serves() {
    let errors = [
        error("", "stale", "stale"),
        error("spec.secret", "secret_missing", "gone"),
    ];
    let status = wanted_after("TLSContext", 1, &errors, None, None, NOW).unwrap();
    assert_eq!(condition(&status, ACCEPTED)["reason"], "secret_missing");
    assert_eq!(condition(&status, ACCEPTED)["message"], "gone (and more)");
}

#[test]
fn when_it_came_about_stays_while_it_is_so() {
    let first = wanted_after("TLSContext", 1, &[], None, None, NOW).unwrap();
    assert_eq!(
        wanted_after("TLSContext", 1, &[], None, Some(&first), LATER),
        None
    );
    let next = wanted_after("TLSContext", 2, &[], None, Some(&first), LATER).unwrap();
    assert_eq!(condition(&next, ACCEPTED)["lastTransitionTime"], NOW);
    assert_eq!(condition(&next, ACCEPTED)["observedGeneration"], 2);
    let errors = [error("spec.sni", "bad_value", "it is bad")];
    let broken = wanted_after("TLSContext", 3, &errors, None, Some(&next), LATER).unwrap();
    assert_eq!(condition(&broken, ACCEPTED)["lastTransitionTime"], LATER);
    assert_eq!(condition(&broken, RESOLVED)["lastTransitionTime"], NOW);
}

#[test]
fn what_another_gateway_saw_of_handshakes_stays_until_this_one_knows_better() {
    let first = wanted_after("TLSContext", 1, &[], Some(&failed()), None, NOW).unwrap();
    assert_eq!(condition(&first, UPSTREAM)["reason"], "unknown_ca");
    assert_eq!(
        wanted_after("TLSContext", 1, &[], None, Some(&first), LATER),
        None
    );
    // Of other settings nobody knows anything.
    let next = wanted_after("TLSContext", 2, &[], None, Some(&first), LATER).unwrap();
    assert_eq!(condition(&next, UPSTREAM)["status"], "Unknown");
    assert_eq!(condition(&next, UPSTREAM)["lastTransitionTime"], LATER);
}

#[test]
fn conditions_of_other_programs_are_no_reason_to_write() {
    let mut status = wanted_after("Host", 1, &[], None, None, NOW).unwrap();
    let all = status["conditions"].as_array_mut().unwrap();
    assert_eq!(all.len(), 2, "a Host originates nothing");
    all.push(json!({"type": "Theirs", "status": "True"}));
    status["state"] = "Ready".into();
    assert_eq!(wanted_after("Host", 1, &[], None, Some(&status), LATER), None);
    assert_eq!(seen("Secret", &status), None);
    assert_eq!(seen("Mapping", &json!({"state": ""})), None);
}

#[test]
fn two_moments_of_one_status_have_one_fingerprint() {
    let a = wanted_after("TLSContext", 1, &[], None, None, NOW).unwrap();
    let b = wanted_after("TLSContext", 1, &[], None, None, LATER).unwrap();
    let c = wanted_after("TLSContext", 2, &[], None, None, NOW).unwrap();
    assert_eq!(fingerprint(&a), fingerprint(&b));
    assert_ne!(fingerprint(&a), fingerprint(&c));
    assert_ne!(
        fingerprint(&json!({"state": "Running"})),
        fingerprint(&json!({"state": "Inactive"}))
    );
}

#[test]
fn a_message_has_the_length_that_the_api_takes() {
    let errors = [error("spec.sni", "bad_value", &"\u{e9}".repeat(40_000))];
    let status = wanted_after("TLSContext", 1, &errors, None, None, NOW).unwrap();
    let message = condition(&status, ACCEPTED)["message"].as_str().unwrap();
    assert!(message.len() <= MESSAGE && message.len() > MESSAGE - 4);
}
