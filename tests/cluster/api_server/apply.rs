//! Server-side apply, as far as tests need it.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::super::answers::{Body, answer, status};
use super::super::place::{Place, parameter};
use super::State;

impl State {
    /// Server-side apply of a status: what the manager applied before and does not any more goes.
    pub(super) fn apply_status(
        &mut self,
        place: &Place,
        query: &str,
        mut current: Value,
        body: &Value,
    ) -> Response<Body> {
        let Some(manager) = parameter(query, "fieldManager") else {
            let message = "metadata.managedFields must be set: a field manager is required";
            return status(StatusCode::BAD_REQUEST, "BadRequest", message);
        };
        let new = &body["status"];
        let before = current.clone();
        let key = (place.namespace.clone(), place.name.clone());
        let applied = self
            .applied
            .insert((place.plural.clone(), key, manager), new.clone());
        for (field, _) in applied.iter().filter_map(Value::as_object).flatten() {
            if new.get(field).is_none() {
                merge(&mut current["status"], &json!({field: null}));
            }
        }
        merge(&mut current["status"], new);
        // What changes nothing makes no version.
        let object = if current == before {
            before
        } else {
            self.put(place, current)
        };
        answer(StatusCode::OK, &object)
    }
}

/// Lays the fields of `new` over those of `old`; lists are replaced, null removes.
pub fn merge(old: &mut Value, new: &Value) {
    match new {
        Value::Object(fields) => {
            if !old.is_object() {
                *old = json!({});
            }
            for (field, value) in fields {
                match (value, old.as_object_mut()) {
                    (Value::Null, Some(old)) => {
                        old.remove(field);
                    }
                    _ => merge(&mut old[field], value),
                }
            }
        }
        other => *old = other.clone(),
    }
}
