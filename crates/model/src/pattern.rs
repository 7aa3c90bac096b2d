//! A regular expression that compares by its text.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex::Regex;

/// A compiled regular expression that must match the whole text, as Envoy's RE2 full match does.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles `text`, anchored at both ends. The compiled size is bounded by `size_limit` bytes.
    pub fn full(text: &str, size_limit: usize) -> Result<Self, regex::Error> {
        let regex = regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(size_limit)
            .build()?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// Compiles `text` unanchored, for substitution.
    pub fn partial(text: &str, size_limit: usize) -> Result<Self, regex::Error> {
        let regex = regex::RegexBuilder::new(text).size_limit(size_limit).build()?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// The text as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The compiled expression.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether the expression matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.regex.as_str().hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}
