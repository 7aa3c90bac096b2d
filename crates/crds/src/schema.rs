//! Schemas of the kinds, and the field names they know.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::Spec;

/// JSON schema of a kind's `spec`, without references, in OpenAPI's dialect as CRDs need it. Fields
/// of [`Spec::LATER`] and [`Spec::NOTES`] are in it and accept anything.
pub fn schema<S: Spec>() -> Schema {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .for_deserialize()
        .into_generator()
        .into_root_schema_for::<S>();
    for path in S::LATER.iter().chain(S::NOTES) {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(properties) = properties_at(schema.as_object_mut(), parent) {
            let open = json!({"x-kubernetes-preserve-unknown-fields": true});
            properties.insert(name.into(), open);
        }
    }
    schema
}

/// Names of the fields that a kind knows under `parent`, a dotted path from `spec` (empty for `spec`
/// itself). Empty where the schema leaves the names open.
pub fn field_names<S: Spec>(parent: &str) -> Vec<String> {
    let mut schema = schema::<S>();
    properties_at(schema.as_object_mut(), parent)
        .map_or_else(Vec::new, |fields| fields.keys().cloned().collect())
}

/// Dotted paths, from `spec`, of all fields that a kind knows outside of lists and maps.
pub fn field_paths<S: Spec>() -> Vec<String> {
    fn walk(schema: &Value, parent: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = if parent.is_empty() {
                name.clone()
            } else {
                format!("{parent}.{name}")
            };
            walk(field, &path, found);
            found.push(path);
        }
    }
    let mut found = Vec::new();
    walk(schema::<S>().as_value(), "", &mut found);
    found
}

/// The `properties` of the object that `path` leads to; `[0]` steps into the items of a list.
fn properties_at<'a>(
    schema: Option<&'a mut Map<String, Value>>,
    path: &str,
) -> Option<&'a mut Map<String, Value>> {
    let object = steps(path).try_fold(schema?, |object, step| step_into(object, step)?.as_object_mut())?;
    object.get_mut("properties")?.as_object_mut()
}

/// What `path` leads to.
pub(crate) fn schema_at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    steps(path).try_fold(schema, |schema, step| step_into(schema.as_object_mut()?, step))
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).filter(|step| !step.is_empty())
}

fn step_into<'a>(object: &'a mut Map<String, Value>, step: &str) -> Option<&'a mut Value> {
    if step.ends_with(']') {
        return object.get_mut("items");
    }
    object.get_mut("properties")?.as_object_mut()?.get_mut(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostSpec, ListenerSpec, MappingSpec, ModuleSpec, TlsContextSpec};

    /// Every later field has a place in the schema, so it is known and has an existing parent.
    fn later_fields_are_known<S: Spec>() {
        for path in S::LATER {
            let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
            assert!(
                field_names::<S>(parent).iter().any(|known| known == name),
                "{} {path}",
                S::KIND
            );
        }
    }

    #[test]
    fn fields_without_effect_are_known_all_the_same() {
        later_fields_are_known::<MappingSpec>();
        later_fields_are_known::<TlsContextSpec>();
        later_fields_are_known::<HostSpec>();
        later_fields_are_known::<ListenerSpec>();
        later_fields_are_known::<ModuleSpec>();
    }

    /// The objects with named fields are those of the schema, and what else is said of fields is of such that exist.
    fn paths_lead_to_fields<S: Spec>() {
        let known = field_paths::<S>();
        let whole = schema::<S>();
        let objects: Vec<&String> = known
            .iter()
            .filter(|path| {
                let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
                let field = whole.as_value().pointer(&pointer).unwrap();
                field["properties"].is_object()
            })
            .collect();
        let mut listed = S::OBJECTS.to_vec();
        listed.sort_unstable();
        let mut found: Vec<&str> = objects.iter().map(|path| path.as_str()).collect();
        found.sort_unstable();
        assert_eq!(listed, found, "{}", S::KIND);
        let forms = S::FORMS.iter().map(|(path, _)| path);
        for path in S::NAMES.iter().chain(forms) {
            assert!(known.iter().any(|known| known == path), "{} {path}", S::KIND);
        }
        for (path, _) in S::IDLE {
            let is_later = |later: &&&str| path == *later || path.starts_with(&format!("{later}."));
            assert!(S::LATER.iter().find(is_later).is_some(), "{} {path}", S::KIND);
        }
    }

    #[test]
    fn what_is_said_of_fields_is_of_fields_that_exist() {
        paths_lead_to_fields::<MappingSpec>();
        paths_lead_to_fields::<TlsContextSpec>();
        paths_lead_to_fields::<HostSpec>();
        paths_lead_to_fields::<ListenerSpec>();
        paths_lead_to_fields::<ModuleSpec>();
    }

    #[test]
    fn names_are_found_at_every_depth() {
        assert!(field_names::<MappingSpec>("").contains(&"prefix_regex".to_owned()));
        assert_eq!(
            field_names::<TlsContextSpec>("verify"),
            ["mode", "names", "pins", "roots"]
        );
        assert!(field_names::<HostSpec>("requestPolicy.insecure").contains(&"additionalPort".to_owned()));
        assert!(field_names::<MappingSpec>("no.such").is_empty());
    }

    #[test]
    fn a_schema_stands_alone() {
        let text = serde_json::to_string(&schema::<HostSpec>()).unwrap();
        assert!(!text.contains("$ref"), "{text}");
        assert!(text.contains("acmeProvider"), "{text}");
    }
}
