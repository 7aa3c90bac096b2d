//! `auto_sni`: each request decides the server name (row S16).

use nuncio_crds::TlsContextSpec;
use nuncio_model::Origin;

use super::Reader;

/// For clusters that keep the reference's CRDs, which know no such field.
pub(super) const ANNOTATION: &str = "nuncio/auto-sni";
const FIELD: &str = "spec.auto_sni";

impl Reader<'_, '_> {
    /// Who said that it is on; the field wins over its annotation.
    pub(super) fn auto_sni(&mut self, spec: &TlsContextSpec, has_sni: bool) -> Option<Origin> {
        let path = format!("metadata.annotations.{ANNOTATION}");
        let annotation = self.object.annotations.get(ANNOTATION).cloned();
        let (on, place) = match (spec.auto_sni, annotation) {
            (Some(on), annotation) => {
                if annotation.is_some() {
                    let message = format!(
                        "the annotation `{ANNOTATION}` has no effect, because `{FIELD}` is given as well; keep one of them"
                    );
                    self.problems
                        .notice(self.object, "conflicting_fields", &path, message);
                }
                (on, FIELD)
            }
            (None, Some(text)) => (self.is_true(&text, &path)?, path.as_str()),
            (None, None) => return None,
        };
        if on && has_sni {
            let message = format!(
                "`{place}` takes the server name from each request, but `spec.sni` sets one; remove one of them"
            );
            self.refuse("conflicting_fields", place, message);
        }
        on.then(|| self.origin(place))
    }

    fn is_true(&mut self, text: &str, path: &str) -> Option<bool> {
        let on = text.trim().parse().ok();
        if on.is_none() {
            let message = format!("`{path}` is `{text}`; write \"true\" or \"false\"");
            self.refuse("bad_value", path, message);
        }
        on
    }
}
