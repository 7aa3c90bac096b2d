//! Slips in a `service`: strings that lost a slash or a colon, or have something else in its place.
//!
//! Read by the letter, `https:/svc` is the host `https` in cleartext. A slip must never send cleartext where TLS was
//! meant, so each such string is refused with its probable spelling.

/// Names of schemes that ask for TLS.
const SECURE: &[&str] = &[
    "https", "tls", "ssl", "mtls", "wss", "grpcs", "ftps", "tcps", "h2",
];

/// Names of schemes that do not.
const CLEAR: &[&str] = &[
    "http", "ws", "grpc", "tcp", "udp", "ftp", "h2c", "unix", "dns", "file",
];

/// Apache's server: a host of this name is far more likely than `https` with another last letter.
const NO_SLIP: &str = "httpd";

/// What a word in the place of a scheme means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// A scheme, or nearly one, with or without TLS.
    Scheme { secure: bool },
    /// Any other word.
    Other,
}

impl Word {
    fn of(word: &str) -> Self {
        let word = word.to_lowercase();
        let is = |schemes: &[&str]| schemes.contains(&word.as_str());
        if is(CLEAR) {
            Self::Scheme { secure: false }
        } else if is(SECURE) || resembles(&word, "https") {
            Self::Scheme { secure: true }
        } else if resembles(&word, "http") {
            Self::Scheme { secure: false }
        } else {
            Self::Other
        }
    }
}

/// Whether a word is a scheme with one letter too few, too many or wrong, or with letters repeated.
fn resembles(word: &str, scheme: &str) -> bool {
    let once = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.dedup();
        letters
    };
    word != NO_SLIP && (strsim::damerau_levenshtein(word, scheme) <= 1 || once(word) == once(scheme))
}

/// A string as word, what follows it, and the rest.
struct Split<'a> {
    word: &'a str,
    gap: &'a str,
    rest: &'a str,
}

impl<'a> Split<'a> {
    fn of(text: &'a str) -> Self {
        let end = |text: &str, ends: fn(char) -> bool| text.find(ends).unwrap_or(text.len());
        let (word, tail) = text.split_at(end(text, |c| !c.is_alphanumeric()));
        let (gap, rest) = tail.split_at(end(tail, |c| c.is_alphanumeric() || c == '['));
        Self { word, gap, rest }
    }

    /// Whether the word stands where a scheme was meant.
    fn is_slip(&self) -> bool {
        let Self { word, gap, rest } = self;
        let has_slash = gap.contains(['/', '\\']);
        if word.is_empty() {
            return has_slash;
        }
        match Word::of(word) {
            // A part of a longer host name, such as `https-proxy`, or all of one before its port.
            _ if gap.chars().all(|c| "-_.%".contains(c)) => false,
            _ if *gap == ":" && begins_with_port(rest) => false,
            Word::Scheme { .. } => !rest.is_empty() || has_slash,
            Word::Other => !rest.is_empty() && has_slash && !gap.starts_with(['/', '?', '#']),
        }
    }
}

fn begins_with_port(rest: &str) -> bool {
    let port = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a string with slips was probably meant to be.
#[derive(Clone, Copy, Debug, Default)]
struct Meant<'a> {
    /// Whether TLS was; none where nothing says so.
    secure: Option<bool>,
    rest: &'a str,
}

impl<'a> Meant<'a> {
    fn of(text: &'a str) -> Self {
        let mut meant = Self {
            secure: None,
            rest: text,
        };
        loop {
            let split = Split::of(meant.rest);
            if !split.is_slip() {
                break;
            }
            if let Word::Scheme { secure } = Word::of(split.word) {
                meant.secure = Some(secure || meant.secure == Some(true));
            }
            meant.rest = split.rest;
        }
        // Credentials are no part of a suggestion, and neither is what is dropped anyway.
        meant.rest = meant.rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
        meant.rest = meant.rest.rsplit('@').next().unwrap_or_default();
        meant.rest = meant
            .rest
            .trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
        meant
    }

    fn with(self, secure: Option<bool>) -> Self {
        let secure = match (self.secure, secure) {
            (Some(own), Some(given)) => Some(own || given),
            (own, given) => own.or(given),
        };
        Self { secure, ..self }
    }

    /// `https://svc`, or both schemes where either may be meant.
    fn spelling(self) -> String {
        let rest = match self.rest {
            "" => "HOST".to_owned(),
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("HOST:{port}"),
            rest => rest.to_owned(),
        };
        match self.secure {
            Some(true) => format!("`https://{rest}`"),
            Some(false) => format!("`http://{rest}`"),
            None => format!("`https://{rest}` or `http://{rest}`"),
        }
    }
}

/// What is wrong with a string that has no scheme, or with what follows one, where it is a slip.
pub(super) fn found(text: &str, scheme: Option<bool>) -> Result<(), String> {
    let split = Split::of(text);
    if !split.is_slip() {
        return Ok(());
    }
    let spelling = Meant::of(text).with(scheme).spelling();
    let Split { word, gap, .. } = split;
    let what = match (word, scheme) {
        ("", None) => format!("begins with `{gap}`, without a scheme"),
        ("", Some(_)) => format!("has `{gap}` after its scheme"),
        (_, None) => format!("begins with `{word}{gap}`, which is no scheme"),
        (_, Some(_)) => format!("has `{word}{gap}` after its scheme"),
    };
    Err(format!("{what}; write {spelling}"))
}

/// What is wrong with the scheme of `scheme://rest`, where it is none that a `service` may have.
pub(super) fn unknown_scheme(scheme: &str, rest: &str) -> String {
    let secure = match Word::of(scheme) {
        Word::Scheme { secure } => Some(secure),
        Word::Other => None,
    };
    if matches!(scheme.to_ascii_lowercase().as_str(), "unix" | "file") {
        return format!(
            "has the scheme `{scheme}`, but nuncio connects over TCP only; write [scheme://]host[:port]"
        );
    }
    let spelling = Meant::of(rest).with(secure).spelling();
    let besides = match scheme.to_ascii_lowercase().as_str() {
        "grpc" | "grpcs" | "h2c" => " with `grpc: true`",
        "ws" | "wss" => " with `allow_upgrade: [websocket]`",
        _ => "",
    };
    format!("has the unknown scheme `{scheme}`; write {spelling}{besides}")
}

/// Whether what stands before `://` is a scheme with other characters in it.
pub(super) fn is_torn_scheme(before: &str) -> bool {
    let letters: String = before.chars().filter(|c| c.is_alphanumeric()).collect();
    Word::of(&letters) != Word::Other
}

/// What stands before `://` and is no scheme.
pub(super) fn no_scheme(before: &str, rest: &str) -> String {
    let whole: String = before.chars().filter(|c| c.is_alphanumeric()).collect();
    let parts = before.split(|c: char| !c.is_alphanumeric()).rev();
    let secure = parts
        .chain([whole.as_str()])
        .find_map(|word| match Word::of(word) {
            Word::Scheme { secure } => Some(secure),
            Word::Other => None,
        });
    let before = before.rsplit('@').next().unwrap_or_default();
    let spelling = Meant::of(rest).with(secure).spelling();
    format!("has `{before}` before `://`, which is no scheme; write {spelling}")
}

/// What is wrong with a host that is called like a scheme.
pub(super) fn host(name: &str, port: Option<&str>, scheme: Option<bool>) -> Result<(), String> {
    let name = name.trim_end_matches('.');
    let secure = SECURE.contains(&name);
    let is_http = matches!(name, "http" | "https");
    // With a scheme before it, `grpc` can only be a host.
    if !(secure || is_http || (scheme.is_none() && CLEAR.contains(&name))) {
        return Ok(());
    }
    let port = port.filter(|port| !port.is_empty()).unwrap_or_default();
    let meant = Meant {
        secure: Some(secure || scheme == Some(true)),
        rest: port,
    };
    let colon = if port.is_empty() { "" } else { ":" };
    Err(format!(
        "has the host `{name}`, which is the name of a scheme; write {}, or `{name}.NAMESPACE{colon}{port}` for a Service of this name",
        meant.spelling()
    ))
}

/// The host in what should be one and is a URL or has white space around it.
pub(crate) fn host_in_url(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let Some((before, after)) = trimmed.split_once(['/', '\\']) else {
        return (trimmed != text).then(|| trimmed.to_owned());
    };
    let letters: String = before.chars().filter(|c| c.is_alphanumeric()).collect();
    let is_scheme = before.is_empty() || before.ends_with([':', ';']) || Word::of(&letters) != Word::Other;
    if !is_scheme {
        return Some(before.trim().to_owned());
    }
    let rest = after.trim_start_matches(['/', '\\', ':']);
    let host = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    Some(host.trim().to_owned())
}

/// A `service` as it may be repeated in a message: without credentials.
pub(crate) fn without_credentials(text: &str) -> std::borrow::Cow<'_, str> {
    match text.rsplit_once('@') {
        None => text.into(),
        Some((before, after)) => {
            let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
            format!("{scheme}…@{after}").into()
        }
    }
}
