//! Server-side apply, as far as tests need it.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::State;
use super::answers::{Body, answer, status};
use super::place::{Place, parameter};

impl State {
    /// Server-side apply of a status: what the manager applied before and does not any more goes.
    pub(super) fn apply_status(
        &mut self,
        place: &Place,
        query: &str,
        mut current: Value,
        body: &Value,
    ) -> Response<Body> {
        if self.failing_statuses > 0 {
            self.failing_statuses -= 1;
            let message = "etcd is not well";
            return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message);
        }
        if self.spoilt.contains(&place.name) {
            let message = "Internal error occurred: failed calling webhook";
            return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message);
        }
        let Some(manager) = parameter(query, "fieldManager") else {
            let message = "metadata.managedFields must be set: a field manager is required";
            return status(StatusCode::BAD_REQUEST, "BadRequest", message);
        };
        let new = &body["status"];
        if new.get("conditions").is_some() && self.without_conditions.contains(&place.plural) {
            let message =
                "failed to create typed patch object: .status.conditions: field not declared in schema";
            return status(StatusCode::INTERNAL_SERVER_ERROR, "", message);
        }
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
