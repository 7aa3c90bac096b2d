//! Requests that two parsers could read differently are refused, and nothing of them goes on.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::{OK, Script, message, raw, rest};
use crate::support::program::Gateway;

/// Every one of these is answered 400 and the connection closed.
const REFUSED: &[(&str, &str)] = &[
    (
        "content-length before transfer-encoding",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "transfer-encoding before content-length",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "folded header",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n c\r\n\r\n",
    ),
    (
        "bare line feed after the request line",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
    ),
    (
        "bare line feed after a header",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\n\r\n",
    ),
    (
        "bare line feed at the end of the head",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
    ),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("two equal hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nx-a: b\r\n\r\n"),
    (
        "no host beside an absolute target",
        "GET http://a/ HTTP/1.1\r\nx-a: b\r\n\r\n",
    ),
    ("a host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    ("a host with a user", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    ("a host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    (
        "a target with a user",
        "GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "a length that is no number",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: five\r\n\r\nhello",
    ),
    (
        "a length with a sign",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
    ),
    (
        "a negative length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\nhello",
    ),
    (
        "a length in hex",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello",
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
    ),
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ),
    (
        "a length beyond all bounds",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nhello",
    ),
    (
        "a length with very many zeros",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 000000000000000000000000000000000000000000005\r\n\r\nhello",
    ),
    (
        "an unknown coding",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nhello",
    ),
    (
        "a coding before chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding in disguise",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a space before the colon",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nhello",
    ),
    ("a zero byte", "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\0c\r\n\r\n"),
    (
        "a carriage return inside a value",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\rc\r\n\r\n",
    ),
    ("no version", "GET /\r\nhost: a\r\n\r\n"),
    ("an unknown version", "GET / HTTP/1.9\r\nhost: a\r\n\r\n"),
    ("no HTTP at all", "\u{16}\u{3}\u{1}\u{2}\0\r\n\r\n"),
];

#[tokio::test]
async fn ambiguous_requests_are_refused_and_nothing_goes_on() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    for (what, bytes) in REFUSED {
        // What follows must not be taken for a request either.
        let bytes = format!("{bytes}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = raw(gateway.address, bytes).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{what}: {answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
    assert_eq!(script.upstream.connections().len(), 0);
    gateway.get("/").await;
    assert_eq!(script.request().first_line(), "GET / HTTP/1.1", "it still serves");
}

#[tokio::test]
async fn what_came_before_an_ambiguous_request_is_answered() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let pipelined = "GET /good HTTP/1.1\r\nhost: a\r\n\r\n\
                     POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                     GET /after HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(gateway.address, pipelined).await;
    let statuses: Vec<&str> = answer
        .matches("HTTP/1.1 200")
        .chain(answer.matches("HTTP/1.1 400"))
        .collect();
    assert_eq!(statuses, ["HTTP/1.1 200", "HTTP/1.1 400"], "{answer}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let asked: Vec<String> = script
        .requests()
        .iter()
        .map(|request| request.first_line().to_owned())
        .collect();
    assert_eq!(asked, ["GET /good HTTP/1.1"]);
}

#[tokio::test]
async fn chunks_that_are_no_chunks_end_the_connection() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    for (what, chunks) in [
        ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed", "5\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("too long a chunk", "5\r\nhello!\r\n0\r\n\r\n"),
        (
            "a size beyond all bounds",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let head = "POST /bad HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let after = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = raw(gateway.address, format!("{head}{chunks}{after}")).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{what}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
    }
    let requests = script.requests();
    let smuggled = requests.iter().any(|request| request.head.contains("smuggled"));
    assert!(!smuggled, "{requests:?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let script = Script::each(|request| {
        let path = request.first_line().split(' ').nth(1).unwrap().to_owned();
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()),
            true,
        )
    });
    let script = script.await;
    let gateway = script.gateway(&[]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let asked = "\r\nGET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na\nb\
                 GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(message(&mut stream).await.unwrap().body, path);
    }
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(script.requests()[1].body, "a\nb");
    assert_eq!(script.upstream.connections().len(), 1);
}

#[tokio::test]
async fn chunks_with_trailers_and_extensions_are_a_body() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let asked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\nconnection: close\r\n\r\n\
                 5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = script.request();
    assert_eq!(request.body, "hello world");
    assert_eq!(request.values("transfer-encoding"), ["chunked"]);
    assert_eq!(request.values("content-length"), [""; 0]);
}

#[tokio::test]
async fn an_absolute_target_goes_on_as_a_path_with_its_own_host() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let asked = "GET http://B.test:81/x?y=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = script.request();
    assert_eq!(request.first_line(), "GET /x?y=1 HTTP/1.1");
    assert_eq!(request.values("host"), ["b.test:81"]);
}

#[tokio::test]
async fn a_tunnel_is_nobodys_mapping() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::start(
        script
            .mapping(&["prefix_regex: true"])
            .replace("prefix: /", "prefix: \".*\""),
    )
    .await;
    let answer = raw(
        gateway.address,
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(script.upstream.connections().len(), 0);
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let with = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-long: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    let answer = raw(gateway.address, with(59 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let answer = raw(gateway.address, with(61 * 1024)).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        "{answer}"
    );
    let many = "x-one: 1\r\n".repeat(200);
    let answer = raw(
        gateway.address,
        format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(script.requests().len(), 1);

    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    max_request_headers_kb: 8\n";
    let gateway = Gateway::start(format!("{}{module}", script.mapping(&[]))).await;
    let answer = raw(gateway.address, with(9 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = raw(gateway.address, with(7 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
