//! What a template leaves behind where nothing has rendered it.

/// How placeholders begin and end, and what fills them in, to follow after "render the manifests first".
const FORMS: &[(&str, &str, &str)] = &[
    (
        "{{",
        "}}",
        ", such as with `helm template CHART | nuncio check -` where they are Helm's",
    ),
    ("{%", "%}", " with the tool whose template this is"),
    ("<%", "%>", " with the tool whose template this is"),
    ("${", "}", ", such as with `envsubst < FILE | nuncio check -`"),
    ("$(", ")", " with the tool whose placeholder this is"),
    ("#{", "}", " with the tool whose placeholder this is"),
    ("@@", "@@", " with the tool whose placeholder this is"),
    ("((", "))", " with the tool whose placeholder this is"),
];

/// Bytes of a placeholder that a message repeats.
const LONGEST: usize = 60;

/// A placeholder in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder<'a> {
    /// As it is written.
    pub(crate) text: &'a str,
    how: &'static str,
}

impl<'a> Placeholder<'a> {
    /// The first in a value in which only names can stand: any other may hold what looks like one.
    pub(crate) fn in_name(value: &'a str) -> Option<Self> {
        let delimited = FORMS.iter().filter_map(|(begin, end, how)| {
            let at = value.find(begin)?;
            let inner = at + begin.len();
            let length = value[inner..].find(end)?;
            let text = &value[at..inner + length + end.len()];
            (length > 0).then_some((at, Self { text, how }))
        });
        let first = delimited.min_by_key(|(at, _)| *at).map(|(_, found)| found);
        first
            .or_else(|| Self::variable(value))
            .or_else(|| Self::blank(value))
    }

    /// The first in a path, of such as paths do not have.
    pub(crate) fn in_path(value: &'a str) -> Option<Self> {
        Self::in_name(value).filter(|found| found.text.contains(['{', '<']) && found.text != "{}")
    }

    /// `$NAME`
    fn variable(value: &'a str) -> Option<Self> {
        let at = value.find('$')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = &value[at + 1..];
        let length = name.find(|c| !is_name(c)).unwrap_or(name.len());
        (length > 0).then(|| Self {
            text: &value[at..=at + length],
            how: ", such as with `envsubst < FILE | nuncio check -`",
        })
    }

    /// `<NAME>`, as documentation writes it.
    fn blank(value: &'a str) -> Option<Self> {
        let at = value.find('<')?;
        let length = value[at..].find('>')?;
        (length > 1).then(|| Self {
            text: &value[at..=at + length],
            how: "",
        })
    }

    /// What is wrong, to follow after the name of the field, and what to do.
    pub(crate) fn message(self) -> String {
        let Self { text, how } = self;
        let shown = if text.len() <= LONGEST && !text.contains(char::is_control) {
            format!("`{text}`, a placeholder")
        } else {
            "a placeholder".to_owned()
        };
        let fix = if how.is_empty() {
            "write the value in its place".to_owned()
        } else {
            format!("write the value in its place, or render the manifests first{how}")
        };
        format!("holds {shown} that nothing has filled in; {fix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_names() {
        for (value, text) in [
            ("{{ .Values.x }}", "{{ .Values.x }}"),
            ("https://{{ x }}:443", "{{ x }}"),
            ("https://${HOST}:${PORT}", "${HOST}"),
            ("https://$(HOST)", "$(HOST)"),
            ("https://$HOST:443", "$HOST"),
            ("<%= host %>", "<%= host %>"),
            ("@@host@@", "@@host@@"),
            ("#{host}#", "#{host}"),
            ("((host))", "((host))"),
            ("https://<your-service>", "<your-service>"),
            ("{% if a %}b{% endif %}", "{% if a %}"),
        ] {
            assert_eq!(
                Placeholder::in_name(value).map(|found| found.text),
                Some(text),
                "{value}"
            );
        }
        for value in [
            "",
            "a.test",
            "https://a",
            "{{",
            "a$",
            "<>",
            "@@",
            "{{}}",
            "a@b",
            "*.a.test",
        ] {
            assert_eq!(Placeholder::in_name(value), None, "{value}");
        }
    }

    #[test]
    fn a_long_placeholder_is_not_repeated() {
        let value = format!("{{{{ {} }}}}", "x".repeat(80));
        let message = Placeholder::in_name(&value).unwrap().message();
        assert!(message.starts_with("holds a placeholder that"), "{message}");
    }
}
