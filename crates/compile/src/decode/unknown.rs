//! Fields that a kind does not have, and what to do about them.

use nuncio_crds::{Spec, field_names, field_paths};

use super::{join, most_distance, slips};

/// More slips than these make another name of one, however long.
const MOST_SLIPS: usize = 3;

/// Names that fields of many objects have, so that none says where it belongs.
const COMMON: &[&str] = &["name", "namespace"];

/// What to say of a field under `parent`, a path from `spec`.
pub(super) fn in_spec<S: Spec>(parent: &str, name: &str) -> String {
    let field = join("spec", &join(parent, name));
    let fix = in_spec_fix::<S>(parent, name);
    format!("{} has no field `{field}`, so it has no effect; {fix}", S::KIND)
}

fn in_spec_fix<S: Spec>(parent: &str, name: &str) -> String {
    let here = nearest(name, &field_names::<S>(parent));
    let did_you_mean = |near: &str| format!("did you mean `{near}`?");
    if let Some(fix) = misnomer::<S>(&join(parent, name)) {
        return fix.to_owned();
    }
    match name {
        "name" | "namespace" | "annotations" | "labels" if parent.is_empty() => {
            return "write it under `metadata`".to_owned();
        }
        "apiVersion" | "kind" | "metadata" if parent.is_empty() => {
            return "write it at the root of the document".to_owned();
        }
        _ => {}
    }
    match (here, elsewhere::<S>(name)) {
        (Some((0 | 1, near)), _) => did_you_mean(&near),
        (_, Some(path)) => format!("write it as `spec.{path}`"),
        (Some((_, near)), None) => did_you_mean(&near),
        (None, None) => "remove it".to_owned(),
    }
}

/// What to say of a field at the root of a document, beside the fields `known` there.
pub(super) fn at_root<S: Spec>(kind: &str, name: &str, known: &[String]) -> String {
    let fix = match (nearest(name, known), elsewhere::<S>(name)) {
        (Some((0, near)), _) => format!("did you mean `{near}`?"),
        (_, Some(path)) if path == name => "write it under `spec`".to_owned(),
        (_, Some(path)) => format!("write it as `spec.{path}`"),
        (Some((_, near)), None) => format!("did you mean `{near}`?"),
        (None, None) => "remove it".to_owned(),
    };
    format!("{kind} has no field `{name}`, so it has no effect; {fix}")
}

/// What to do about a field whose name is not that of any, though users write it.
pub(super) fn misnomer<S: Spec>(path: &str) -> Option<&'static str> {
    let found = S::MISNOMERS.iter().find(|(known, _)| slips(path, known) == 0);
    found.map(|(_, fix)| *fix)
}

/// The path of a field that has this name, in another place.
fn elsewhere<S: Spec>(name: &str) -> Option<String> {
    if COMMON.contains(&name) {
        return None;
    }
    let is_it = |path: &String| path.rsplit('.').next().is_some_and(|last| slips(name, last) == 0);
    let paths = field_paths::<S>().into_iter().filter(is_it);
    paths.min_by_key(|path| (path.matches('.').count(), path.len()))
}

fn nearest(name: &str, known: &[String]) -> Option<(usize, String)> {
    let measured = known.iter().map(|known| (slips(name, known), known.clone()));
    measured
        .min()
        .filter(|(slips, _)| *slips <= most_distance(name).min(MOST_SLIPS))
}
