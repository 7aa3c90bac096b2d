//! One file: its bytes, its text, its objects.

mod foreign;
mod template;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use nuncio_compile::Object;
use nuncio_compile::yaml::{self, Content, Fault, Node, Piece, Spot};
use nuncio_model::{Place, Problem, Severity};
use serde_json::Value;

/// Bytes of a manifest that are read.
pub(crate) const MANIFEST_LIMIT: u64 = 64 * 1024 * 1024;

/// Bytes of a certificate or key file that are read.
pub(crate) const MATERIAL_LIMIT: u64 = 4 * 1024 * 1024;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// As it stands in the file.
    pub(crate) text: String,
    /// In the order of the text.
    pub(crate) objects: Vec<Object>,
    /// What could not be read as objects.
    pub(crate) problems: Vec<Problem>,
    /// The first directive that keeps a document from being read.
    template: Option<Spot>,
}

/// Reads at most `limit` bytes of a regular file. The error is the end of a sentence that begins
/// with the file's name.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| because(&error))?;
    if !metadata.is_file() {
        return Err("is no regular file; name a file".to_owned());
    }
    let too_large = || format!("is larger than {} MiB; split it", limit / 1024 / 1024);
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    let file = File::open(path).map_err(|error| because(&error))?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| because(&error))?;
    // It may have grown since.
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Why the file system refused, as the end of a sentence that begins with the file's name.
pub(crate) fn because(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist; correct the path, or put the file there".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "cannot be read, permission denied; make it readable for the user that nuncio runs as".to_owned()
        }
        // Links in a circle have no stable name in std.
        _ if error.raw_os_error() == Some(40) => {
            "is a symbolic link that leads in a circle; let it point to a file".to_owned()
        }
        _ => format!("cannot be read ({error}); check the file and its disk"),
    }
}

/// With a byte order mark.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF])
}

/// The problem of a file or folder as a whole.
pub(crate) fn file_problem(
    severity: Severity,
    reason: &'static str,
    name: &Arc<str>,
    message: String,
) -> Problem {
    Problem {
        severity,
        reason: reason.into(),
        message,
        object: None,
        field: None,
        place: Some(place(name, Spot { line: 1, column: 1 })),
    }
}

pub(crate) fn place(name: &Arc<str>, spot: Spot) -> Place {
    Place {
        file: Arc::clone(name),
        line: spot.line,
        column: spot.column,
    }
}

impl Manifest {
    /// Reads the file at `path`, which its user calls `name`.
    pub(crate) fn read(path: &Path, name: &Arc<str>) -> Self {
        Self::of(read_bounded(path, MANIFEST_LIMIT), name)
    }

    fn of(read: Result<Vec<u8>, String>, name: &Arc<str>) -> Self {
        let fail = |reason, message: &str| Self {
            problems: vec![file_problem(
                Severity::Error,
                reason,
                name,
                format!("file {name} {message}"),
            )],
            ..Self::default()
        };
        match read {
            Err(message) => fail("unreadable_file", &message),
            Ok(bytes) if is_utf16(&bytes) => fail(
                "not_text",
                "is UTF-16, as PowerShell writes it; save it as UTF-8, such as with `iconv -f UTF-16 -t UTF-8`",
            ),
            Ok(bytes) if bytes.contains(&0) => {
                fail("not_text", "is binary; manifests are YAML or JSON in UTF-8")
            }
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(text, name),
                Err(error) => Self::not_utf8(error.as_bytes(), error.utf8_error().valid_up_to(), name),
            },
        }
    }

    /// Reads standard input to its end, under the name that places give it.
    pub(crate) fn from_standard_input() -> (Arc<str>, Self) {
        let name: Arc<str> = "<standard input>".into();
        let mut bytes = Vec::new();
        let read = io::stdin()
            .lock()
            .take(MANIFEST_LIMIT + 1)
            .read_to_end(&mut bytes);
        let read = match read {
            Err(error) => Err(because(&error)),
            Ok(_) if bytes.len() as u64 > MANIFEST_LIMIT => Err(format!(
                "is larger than {} MiB; split it",
                MANIFEST_LIMIT / 1024 / 1024
            )),
            Ok(_) => Ok(bytes),
        };
        let manifest = Self::of(read, &name);
        (name, manifest)
    }

    /// Whether the file holds `text`, which costs less to see than to read it as objects.
    pub(crate) fn is_still(path: &Path, text: &str) -> bool {
        read_bounded(path, MANIFEST_LIMIT).is_ok_and(|bytes| bytes == text.as_bytes())
    }

    fn not_utf8(bytes: &[u8], at: usize, name: &Arc<str>) -> Self {
        let before = &bytes[..at];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let spot = Spot {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        };
        let fault = Fault {
            spot,
            message: format!("file {name} is not UTF-8 from here on; save it as UTF-8"),
        };
        Self {
            problems: vec![fault_problem("not_text", fault, name)],
            ..Self::default()
        }
    }

    /// The objects of a text. A broken document is a problem and takes no other with it.
    pub(crate) fn parse(text: String, name: &Arc<str>) -> Self {
        let mut manifest = Self::default();
        for piece in yaml::pieces(&text) {
            manifest.take(piece, name);
        }
        manifest.tell_template(name);
        manifest.text = text;
        manifest
    }

    /// In a template, that it is one is the only problem worth reporting of the documents that cannot be read for it, and
    /// of those that are no objects: its YAML is not there yet.
    fn tell_template(&mut self, name: &Arc<str>) {
        let Some(spot) = self.template.take() else {
            return;
        };
        self.problems.retain(|problem| problem.reason != "not_an_object");
        let message = format!(
            "file {name} is a template, not a manifest; render it and use what comes out, such as with `helm template \
             CHART > manifests.yaml` where it is Helm's"
        );
        let problem = fault_problem("template", Fault { spot, message }, name);
        self.problems.insert(0, problem);
    }

    fn take(&mut self, piece: Piece<'_>, name: &Arc<str>) {
        let (documents, fault) = yaml::parse(piece);
        if let Some(spot) = fault.as_ref().and_then(|_| template::cause(piece)) {
            self.template.get_or_insert(spot);
            return;
        }
        let (documents, fault) = match (stray(piece, &documents), fault) {
            (Some(stray), Some(_)) => (Vec::new(), Some(stray)),
            (_, fault) => (documents, fault),
        };
        for node in documents {
            let start = place(name, node.spot);
            let value = match node.into_value() {
                Ok(value) => value,
                Err(fault) => {
                    self.problems.push(fault_problem("bad_yaml", fault, name));
                    continue;
                }
            };
            if let Some(what) = foreign::what(&value, name) {
                self.problems.push(Problem {
                    severity: Severity::Notice,
                    reason: "not_read".into(),
                    message: format!("nuncio does not read this: it is {what}"),
                    object: None,
                    field: None,
                    place: Some(start),
                });
                continue;
            }
            match Object::from_document(value, Some(start)) {
                Ok(object) => self.objects.push(object),
                Err(problem) => self.problems.push(*problem),
            }
        }
        self.problems
            .extend(fault.map(|fault| fault_problem("bad_yaml", fault, name)));
    }
}

/// What stands where a document should begin, and makes one of itself.
fn stray(piece: Piece<'_>, documents: &[Node]) -> Option<Fault> {
    let [node] = documents else { return None };
    let Content::Leaf(Value::String(_)) = &node.content else {
        return None;
    };
    let line = piece.text.lines().find(|line| !line.trim().is_empty())?;
    let message = match line.strip_prefix("---") {
        Some(rest) if rest.starts_with([' ', '\t']) => {
            "something stands after the `---`, so the lines below it belong to no document; remove it, or put a `#` \
             before it"
        }
        _ if line.len() > 1 && line.trim_end().bytes().all(|byte| b"-=_*".contains(&byte)) => {
            "this line is no separator of documents; write `---`, with nothing after it"
        }
        _ => {
            "this line is no part of a manifest, and what follows cannot be read as one beside it; remove it"
        }
    };
    Some(Fault {
        spot: node.spot,
        message: message.to_owned(),
    })
}

fn fault_problem(reason: &'static str, fault: Fault, name: &Arc<str>) -> Problem {
    Problem {
        severity: Severity::Error,
        reason: reason.into(),
        message: fault.message,
        object: None,
        field: None,
        place: Some(place(name, fault.spot)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n";

    fn parse(text: &str) -> Manifest {
        Manifest::parse(text.to_owned(), &"m.yaml".into())
    }

    #[test]
    fn a_broken_document_takes_no_other_with_it() {
        let manifest = parse(&format!(
            "{GOOD}---\nkind: [\n---\n{}",
            GOOD.replace("name: a", "name: b")
        ));
        let names: Vec<_> = manifest
            .objects
            .iter()
            .map(|o| o.reference.name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(manifest.problems.len(), 1);
        let place = manifest.problems[0].place.as_ref().unwrap();
        assert_eq!((&*place.file, place.line), ("m.yaml", 5));
    }

    #[test]
    fn objects_know_where_their_documents_start() {
        let manifest = parse(&format!("# first\n{GOOD}---\n# second\n\n{GOOD}"));
        let lines: Vec<_> = manifest
            .objects
            .iter()
            .map(|o| o.place.as_ref().unwrap().line)
            .collect();
        assert_eq!(lines, [2, 8]);
    }

    #[test]
    fn what_is_no_object_is_a_problem_at_its_start() {
        let manifest = parse("- a\n- b\n");
        assert!(manifest.objects.is_empty());
        assert_eq!(manifest.problems[0].place.as_ref().unwrap().line, 1);
    }

    #[test]
    fn a_template_is_one_problem_that_says_how_to_render_it() {
        let texts = [
            "{{- if .Values.on }}\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .a }}\n{{- end }}\n",
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}-m\n",
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n{% for x in y %}\n  {{ x }}: a\n{% endfor %}\n",
        ];
        for text in texts {
            let manifest = parse(text);
            assert_eq!(manifest.problems.len(), 1, "{text}");
            let problem = &manifest.problems[0];
            assert_eq!(
                (problem.severity, &*problem.reason),
                (Severity::Error, "template")
            );
            assert!(problem.message.contains("helm template"), "{}", problem.message);
        }
        assert_eq!(parse("kind: [\n").problems[0].reason, "bad_yaml");
    }

    #[test]
    fn a_directive_that_is_meant_hides_no_fault() {
        let reasons = |text: &str| -> Vec<String> {
            let problems = parse(text).problems;
            problems
                .iter()
                .map(|problem| problem.reason.to_string())
                .collect()
        };
        let meant = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: '{{ .x }}'}\n";
        assert_eq!(reasons(meant), Vec::<String>::new());
        assert_eq!(reasons(&format!("{meant}---\nkind: [\n")), ["bad_yaml"]);
        assert_eq!(reasons(&format!("# {{{{ x }}}}\n{GOOD}  b: c\n")), ["bad_yaml"]);
        let template = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .x }}\n";
        assert_eq!(
            reasons(&format!("{template}---\nkind: [\n")),
            ["template", "bad_yaml"]
        );
        assert_eq!(reasons(&format!("{template}---\n{template}")), ["template"]);
    }

    #[test]
    fn what_stands_in_place_of_a_separator_is_one_problem() {
        for (text, says) in [
            (format!("--- junk\n{GOOD}"), "after the `---`"),
            (format!("----\n{GOOD}"), "no separator of documents"),
            (format!("{GOOD}--\n{GOOD}"), "no separator of documents"),
            (
                format!("cat <<EOF | kubectl apply -f -\n{GOOD}EOF\n"),
                "no part of a manifest",
            ),
        ] {
            let manifest = parse(&text);
            assert_eq!(manifest.problems.len(), 1, "{text}");
            let message = &manifest.problems[0].message;
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn files_of_other_tools_are_notices() {
        let texts = [
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [m.yaml]\n",
            "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
            "services: {web: {image: a}}\n",
            "name: ci\non: push\njobs: {}\n",
            "replicas: 2\nimage: {tag: a}\n",
            "- op: replace\n  path: /spec/prefix\n  value: /a/\n",
        ];
        for text in texts {
            let manifest = parse(text);
            let severities: Vec<_> = manifest.problems.iter().map(|problem| problem.severity).collect();
            assert_eq!(severities, [Severity::Notice], "{text}");
        }
        for text in [
            "kind: Mapping\nspec: {}\n",
            "apiVersion: v1\nspec: {}\n",
            "metadata: {name: a}\n",
            "a\n",
        ] {
            assert_eq!(parse(text).problems[0].severity, Severity::Error, "{text}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_names_both_lines() {
        let manifest = parse(&format!("{GOOD}data:\n  a: x\n  b: y\n  a: z\n"));
        assert_eq!(
            manifest.problems[0].message,
            "the key `a` stands twice, on lines 5 and 7; keep one of them"
        );
    }

    #[test]
    fn files_that_are_no_text_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let name: Arc<str> = "a.yaml".into();
        std::fs::write(&path, b"\x7fELF\0\0").unwrap();
        let problem = &Manifest::read(&path, &name).problems[0];
        assert_eq!(
            problem.message,
            "file a.yaml is binary; manifests are YAML or JSON in UTF-8"
        );
        let utf16: Vec<u8> = "\u{feff}a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, utf16).unwrap();
        let problem = &Manifest::read(&path, &name).problems[0];
        assert!(problem.message.contains("is UTF-16"), "{}", problem.message);
        std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
        let problem = &Manifest::read(&path, &name).problems[0];
        assert_eq!(
            problem.message,
            "file a.yaml is not UTF-8 from here on; save it as UTF-8"
        );
        let place = problem.place.as_ref().unwrap();
        assert_eq!((place.line, place.column), (2, 4));
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        File::create(&path).unwrap().set_len(MANIFEST_LIMIT + 1).unwrap();
        let problem = &Manifest::read(&path, &"a.yaml".into()).problems[0];
        assert_eq!(problem.message, "file a.yaml is larger than 64 MiB; split it");
    }

    #[test]
    fn links_in_a_circle_and_missing_files_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let message = read_bounded(&path, 10).unwrap_err();
        assert_eq!(
            message,
            "is a symbolic link that leads in a circle; let it point to a file"
        );
        let message = read_bounded(&folder.path().join("none"), 10).unwrap_err();
        assert_eq!(message, "does not exist; correct the path, or put the file there");
        assert_eq!(
            read_bounded(folder.path(), 10).unwrap_err(),
            "is no regular file; name a file"
        );
    }
}
