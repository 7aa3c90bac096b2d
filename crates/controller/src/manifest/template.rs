//! Templates that are taken for manifests.

use nuncio_compile::yaml::Spot;

/// How directives begin and end in Helm's and Jinja's templates.
const DIRECTIVES: &[(&str, &str)] = &[("{{", "}}"), ("{%", "%}")];

/// The first template directive outside of comments.
pub(super) fn directive(text: &str) -> Option<Spot> {
    text.lines().enumerate().find_map(|(index, line)| {
        if line.trim_start().starts_with('#') {
            return None;
        }
        let mut found = DIRECTIVES
            .iter()
            .filter_map(|(begin, end)| line.find(begin).filter(|at| line[*at..].contains(end)));
        let at = found.next()?;
        Some(Spot {
            line: u32::try_from(index + 1).unwrap_or(u32::MAX),
            column: u32::try_from(line[..at].chars().count() + 1).unwrap_or(u32::MAX),
        })
    })
}
