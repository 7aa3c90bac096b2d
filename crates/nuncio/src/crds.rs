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

#[cfg(test)]
mod tests {
    use nuncio_compile::yaml;
    use serde_json::Value;

    #[test]
    fn what_is_written_is_read_back() {
        let mut text = Vec::new();
        assert_eq!(super::write(&mut text).unwrap(), 0);
        let text = String::from_utf8(text).unwrap();
        let mut read: Vec<Value> = Vec::new();
        for piece in yaml::pieces(&text) {
            let (nodes, fault) = yaml::parse(piece);
            assert_eq!(fault, None);
            read.extend(nodes.into_iter().map(|node| node.into_value().unwrap()));
        }
        assert_eq!(read, nuncio_crds::definitions());
    }
}
