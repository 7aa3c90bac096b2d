use super::*;

const MOST: usize = 60 * 1024;

/// Feeds `bytes` whole, then byte by byte: both must say the same.
fn refused(bytes: &[u8]) -> bool {
    let whole = Ambiguous::default();
    Guard::new(whole.clone(), MOST).watch(bytes);
    let single = Ambiguous::default();
    let mut guard = Guard::new(single.clone(), MOST);
    for byte in bytes {
        if guard.watch(std::slice::from_ref(byte)).is_some() {
            break;
        }
    }
    let last = u32::MAX - 1;
    assert_eq!(
        whole.concerns(last).is_some(),
        single.concerns(last).is_some(),
        "{}",
        String::from_utf8_lossy(bytes)
    );
    whole.concerns(last).is_some()
}

#[test]
fn ordinary_requests_pass() {
    assert!(!refused(
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
    ));
    assert!(!refused(
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\nhost: a\r\n\r\n"
    ));
    assert!(!refused(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nt: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    ));
    assert!(!refused(b"\r\n\r\nGET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
}

#[test]
fn ambiguous_requests_are_refused() {
    assert!(
        refused(b"GET / HTTP/1.1\nhost: a\r\n\r\n"),
        "bare line feed after the request line"
    );
    assert!(
        refused(b"GET / HTTP/1.1\r\nhost: a\n\r\n"),
        "bare line feed after a header"
    );
    assert!(
        refused(b"GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n"),
        "folded header"
    );
    assert!(refused(
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    assert!(refused(
        b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n\r\n"
    ));
    assert!(refused(
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n"
    ));
    assert!(refused(b"POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n"));
}

#[test]
fn a_fragment_in_the_request_line_is_refused() {
    assert!(refused(b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(refused(b"GET /a?b# HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(refused(
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET http://a#b HTTP/1.1\r\nhost: a\r\n\r\n"
    ));
    assert!(!refused(
        b"POST / HTTP/1.1\r\nx: #\r\ncontent-length: 3\r\n\r\n#\r\n"
    ));
}

#[test]
fn only_what_can_be_taken_off_is_a_coding() {
    for coding in [
        "gzip",
        "gzip, chunked",
        "xchunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert!(refused(head.as_bytes()), "{coding}");
    }
}

#[test]
fn a_length_beyond_what_is_kept_of_a_line_is_refused() {
    let zeros = "0".repeat(LINE);
    assert!(refused(
        format!("POST / HTTP/1.1\r\ncontent-length: {zeros}5\r\n\r\n").as_bytes()
    ));
}

#[test]
fn requests_before_an_ambiguous_one_are_not_concerned() {
    let good = b"GET / HTTP/1.1\r\n\r\n";
    let ambiguous = Ambiguous::default();
    let mut guard = Guard::new(ambiguous.clone(), MOST);
    guard.watch(good);
    guard.watch(b"GET / HTTP/1.1\n\r\n");
    assert_eq!(ambiguous.concerns(1), None);
    assert!(ambiguous.concerns(2).is_some() && ambiguous.concerns(3).is_some());

    let ambiguous = Ambiguous::default();
    let mut guard = Guard::new(ambiguous.clone(), MOST);
    guard.watch(good);
    guard.watch(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n");
    assert_eq!(ambiguous.concerns(1), None);
    assert!(ambiguous.concerns(2).is_some(), "the request whose body it is");
}

#[test]
fn a_pipelined_request_is_watched_too() {
    assert!(refused(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n\r\n"));
    assert!(refused(
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\n\r\n"
    ));
    assert!(refused(
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\n\r\n"
    ));
}

/// What is left of a head that cannot be read, and why: however it is cut into reads.
#[test]
fn a_head_that_cannot_be_read_ends_before_the_line_at_fault() {
    let long = "x".repeat(MOST);
    let many = "a: b\r\n".repeat(101);
    let (bad, large) = (
        StatusCode::BAD_REQUEST,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    );
    for (fields, status, why) in [
        (
            "x y: 1\r\n",
            bad,
            "byte 0x20 stands in the name of a field, at field 2",
        ),
        (
            "x-a: b\0c\r\n",
            bad,
            "byte 0x00 stands in the value of a field, at field 2 (`x-a`)",
        ),
        ("x-a: b\rc\r\n", bad, "at field 2 (`x-a`)"),
        (
            "x-a\r\n",
            bad,
            "a field has no name before a colon, at field 2 (`x-a",
        ),
        (
            ": b\r\n",
            bad,
            "a field has no name before a colon, at field 2 (``)",
        ),
        (
            "x-a: b\n",
            bad,
            "a line ends with a bare line feed, at field 2 (`x-a`)",
        ),
        (" b\r\n", bad, "a field is folded over two lines, at field 2"),
        (
            "content-length: 5, 5\r\n",
            bad,
            "Content-Length is not one number, at field 2",
        ),
        (
            &format!("x-a: {long}\r\n"),
            large,
            "more than 61440 bytes, at field 2 (`x-a`)",
        ),
        (&many, large, "more than 100 fields"),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").into_bytes();
        for size in [bytes.len(), 1, 2, 7, 40] {
            let ambiguous = Ambiguous::default();
            let mut guard = Guard::new(ambiguous.clone(), MOST);
            let mut left = Vec::new();
            for piece in bytes.chunks(size) {
                let cut = guard.watch(piece);
                left.extend_from_slice(&piece[..cut.map_or(piece.len(), |cut| cut.at)]);
                if let Some(cut) = cut {
                    left.extend_from_slice(cut.end);
                    break;
                }
            }
            let refusal = ambiguous.concerns(1).unwrap();
            assert_eq!(refusal.status, status, "{refusal:?}");
            assert!(refusal.message.contains(why), "{refusal:?}");
            let left = String::from_utf8_lossy(&left);
            let whole = left.starts_with("GET / HTTP/1.1\r\nhost: a\r\n") && left.ends_with("\r\n\r\n");
            assert!(whole && left.len() <= MOST + 16, "{size}: {why}");
        }
    }
}

#[test]
fn a_target_without_end_is_cut_where_the_head_may_end() {
    let ambiguous = Ambiguous::default();
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(MOST));
    let cut = Guard::new(ambiguous.clone(), MOST)
        .watch(target.as_bytes())
        .unwrap();
    assert_eq!(cut.at + cut.end.len(), MOST);
    assert_eq!(ambiguous.concerns(1).unwrap().status, StatusCode::URI_TOO_LONG);
}

#[test]
fn a_begun_head_is_told_from_an_idle_connection() {
    let mut guard = Guard::new(Ambiguous::default(), MOST);
    assert!(!guard.in_head());
    guard.watch(b"GET / HTTP/1.1\r\nho");
    assert!(guard.in_head());
    guard.watch(b"st: a\r\n\r\n");
    assert!(!guard.in_head());
}

#[test]
fn empty_lines_are_the_beginning_of_a_head() {
    let mut guard = Guard::new(Ambiguous::default(), MOST);
    guard.watch(b"\r\n");
    assert!(!guard.in_head(), "one may follow a body");
    guard.watch(b"\r\n");
    assert!(guard.in_head());
    guard.watch(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!guard.in_head());
}
