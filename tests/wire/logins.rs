//! Logins that hold for a connection (NTLM, Negotiate) hold for one client alone.

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::{Message, message, next_message};
use crate::support::client::Client;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping};

/// Knows who has logged in on a connection, as IIS does: `NTLM` with a name is the whole login.
async fn upstream() -> Upstream {
    Upstream::raw(|mut stream| async move {
        let mut who = None;
        while let Some(request) = next_message(&mut stream).await {
            let fields = ["authorization", "proxy-authorization"];
            let mut credentials = fields.iter().flat_map(|field| request.values(field));
            let name = credentials.find_map(|value| {
                let (scheme, name) = value.split_once(' ')?;
                let known = ["ntlm", "negotiate"].contains(&&*scheme.to_ascii_lowercase());
                known.then(|| name.to_owned())
            });
            who = name.or(who);
            let (status, body) = match &who {
                Some(name) => ("200 OK", format!("hello {name}")),
                None => (
                    "401 Unauthorized\r\nwww-authenticate: Basic realm=x, NTLM",
                    "who?".to_owned(),
                ),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            // The gateway may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

async fn in_front_of(upstream: &Upstream) -> Gateway {
    let service = format!("http://{}", upstream.address);
    Gateway::start(mapping("m", "/", &service, &[])).await
}

async fn get(stream: &mut TcpStream, headers: &str) -> Message {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Message {
    message(stream).await.expect("an answer")
}

#[tokio::test]
async fn a_login_is_not_shared_with_other_clients() {
    let upstream = upstream().await;
    let gateway = in_front_of(&upstream).await;
    for credentials in [
        "authorization: NTLM alice\r\n",
        "Authorization: negotiate alice\r\n",
        "proxy-authorization: Negotiate alice\r\n",
        "connection: authorization\r\nauthorization: NTLM alice\r\n",
    ] {
        let mut alice = TcpStream::connect(gateway.address).await.unwrap();
        assert_eq!(
            get(&mut alice, credentials).await.body,
            "hello alice",
            "{credentials}"
        );
        let mut bob = TcpStream::connect(gateway.address).await.unwrap();
        assert_eq!(get(&mut bob, "").await.body, "who?", "{credentials}");
        let login = "authorization: NTLM bob\r\n";
        assert_eq!(get(&mut bob, login).await.body, "hello bob", "{credentials}");
        assert_eq!(get(&mut alice, "").await.body, "hello alice", "{credentials}");
        assert_eq!(get(&mut bob, "").await.body, "hello bob", "{credentials}");
    }
}

#[tokio::test]
async fn a_login_takes_place_on_one_connection() {
    let upstream = upstream().await;
    let gateway = in_front_of(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    assert!(
        get(&mut client, "")
            .await
            .first_line()
            .starts_with("HTTP/1.1 401 ")
    );
    // Another client takes what is free meanwhile.
    let mut other = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(get(&mut other, "").await.body, "who?");
    assert_eq!(
        upstream.connections().len(),
        2,
        "the asked one was not free for it"
    );
    for _ in 0..2 {
        let answer = get(&mut client, "authorization: NTLM alice\r\n").await;
        assert_eq!(answer.body, "hello alice");
    }
    assert_eq!(upstream.connections().len(), 2);
}

#[tokio::test]
async fn a_login_ends_with_its_client() {
    let upstream = upstream().await;
    let gateway = in_front_of(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    get(&mut client, "authorization: NTLM alice\r\n").await;
    assert!(!upstream.last().closed);
    drop(client);
    upstream
        .saw("the end of the connection", |connection| connection.closed)
        .await;
}

#[tokio::test]
async fn streams_of_a_client_share_its_login() {
    let upstream = upstream().await;
    let gateway = in_front_of(&upstream).await;
    let mut alice = Client::http2(gateway.address).await;
    let request = http::Request::get("http://a/").header("authorization", "NTLM alice");
    let answer = alice
        .send(request.body(Default::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.text(), "hello alice");
    let Client::Http2(sender) = &alice else {
        panic!("HTTP/2 was asked for");
    };
    let streams = (0..8).map(|_| {
        let mut stream = Client::Http2(sender.clone());
        async move { stream.get("a", "/").await.text().to_owned() }
    });
    for body in futures_util::future::join_all(streams).await {
        assert_eq!(body, "hello alice");
    }
    assert_eq!(upstream.connections().len(), 1, "one after the other");
    let mut bob = Client::http2(gateway.address).await;
    assert_eq!(bob.get("a", "/").await.text(), "who?");
}

#[tokio::test]
async fn ordinary_credentials_share_connections() {
    let upstream = upstream().await;
    let gateway = in_front_of(&upstream).await;
    for _ in 0..3 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let answer = get(&mut client, "authorization: Bearer ntlm\r\nx: NTLM a\r\n").await;
        assert!(answer.first_line().starts_with("HTTP/1.1 401 "));
    }
    // Each of the three was asked to log in, so each has one of its own.
    assert_eq!(upstream.connections().len(), 3);
}
