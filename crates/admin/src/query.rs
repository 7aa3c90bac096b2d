//! The query of a request to the admin interface.

/// Parameters as they stand; none of ours needs percent-encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl<'a> Query<'a> {
    /// The first value; empty for a parameter without `=`.
    pub(crate) fn value(self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// Whether a switch is on: `name`, `name=true`, `name=1`, but not `name=false` or `name=0`.
    pub(crate) fn is_on(self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| !matches!(value, "false" | "0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_on_unless_said_otherwise() {
        for (query, on) in [
            ("json=true", true),
            ("json", true),
            ("filter=errors&json=1", true),
            ("json=false", false),
            ("json=0&json=true", false),
            ("xjson=true", false),
            ("", false),
        ] {
            assert_eq!(Query(query).is_on("json"), on, "{query}");
        }
    }
}
