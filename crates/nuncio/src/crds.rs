//! `nuncio crds`: the CustomResourceDefinitions, for `kubectl apply -f -`.

use std::io::{self, Write};

/// Writes them as YAML, a document a kind, and gives the status to exit with.
pub(crate) fn write(out: &mut dyn Write) -> io::Result<u8> {
    for definition in nuncio_crds::definitions() {
        let text = serde_saphyr::to_string(&definition).map_err(io::Error::other)?;
        write!(out, "---\n{text}")?;
    }
    Ok(0)
}
