//! Interim answers, and clients that wait for one before they send content.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::callers::{CONTENT, Caller, Step, Stepwise};
use super::socket::{OK, Script, message, raw};
use crate::support::peer::{Upstream, read_head};
use crate::support::program::{Gateway, mapping};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-hop\r\n\
                     x-hop: 1\r\n\r\n";
/// The same as a client sees it.
const PASSED_ON: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

async fn gateway_to(upstream: &Upstream) -> Gateway {
    Gateway::start(mapping(
        "m",
        "/",
        &format!("http://{}", upstream.address),
        &["rewrite: \"\""],
    ))
    .await
}

#[tokio::test]
async fn interim_answers_reach_an_http1_client_when_they_come() {
    let (go_on, told) = watch::channel(false);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let mut told = told.clone();
        async move {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(HINTS.as_bytes()).await.unwrap();
                told.wait_for(|told| *told).await.unwrap();
                let rest = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\nx-a: b\r\n\r\n";
                stream.write_all(format!("{rest}{OK}").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let gateway = gateway_to(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    // The second is there before the first is answered.
    let asked = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2);
    client.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(
        read_head(&mut client).await,
        PASSED_ON,
        "before there is an answer"
    );
    go_on.send(true).unwrap();
    for round in [1, 2] {
        if round == 2 {
            assert_eq!(read_head(&mut client).await, PASSED_ON);
        }
        assert_eq!(
            read_head(&mut client).await,
            "HTTP/1.1 102 Processing\r\n\r\n",
            "{round}"
        );
        assert_eq!(
            read_head(&mut client).await,
            "HTTP/1.1 199 \r\nx-a: b\r\n\r\n",
            "{round}"
        );
        let answer = message(&mut client).await.unwrap();
        assert_eq!(
            (answer.first_line(), &*answer.body),
            ("HTTP/1.1 200 OK", "ok"),
            "{round}"
        );
    }
}

#[tokio::test]
async fn clients_that_take_no_interim_answer_get_the_final_one() {
    let script = Script::answering(format!("{HINTS}{OK}")).await;
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    enable_http10: true\n";
    let gateway = Gateway::start(script.mapping(&[]) + module).await;
    let answer = raw(gateway.address, "GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1").count(), 1, "{answer}");
}

/// Whether client and upstream speak HTTP/2, in all combinations.
const VERSIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(owned).collect()
}

const HINT: Step = Step::Interim(103, &[("link", "</a.css>; rel=preload")], 1);

fn hint() -> Option<(u16, Vec<(String, String)>)> {
    Some((103, fields(&[("link", "</a.css>; rel=preload")])))
}

#[tokio::test]
async fn interim_answers_pass_between_all_versions() {
    const STEPS: &[Step] = &[
        HINT,
        Step::Wait,
        Step::Interim(102, &[], 1),
        Step::Interim(199, &[("x-a", "1"), ("x-a", "2")], 1),
        Step::Answer(200, "ok"),
    ];
    for (client, upstream) in VERSIONS {
        let stepwise = Stepwise::start(upstream, STEPS).await;
        let gateway = stepwise.gateway().await;
        let mut caller = Caller::get(&gateway, client).await;
        assert_eq!(caller.interim().await, hint(), "before there is an answer");
        stepwise.go_on();
        assert_eq!(caller.interim().await, Some((102, Vec::new())));
        let twice = fields(&[("x-a", "1"), ("x-a", "2")]);
        assert_eq!(caller.interim().await, Some((199, twice)));
        assert_eq!(
            caller.answer().await,
            (200, "ok".to_owned()),
            "{client} {upstream}"
        );
    }
}

#[tokio::test]
async fn interim_answers_without_end_harm_nobody() {
    const STEPS: &[Step] = &[
        Step::Interim(103, &[("link", "</a.css>; rel=preload")], 500),
        Step::Answer(200, "ok"),
    ];
    for (client, upstream) in VERSIONS {
        let stepwise = Stepwise::start(upstream, STEPS).await;
        let gateway = stepwise.gateway().await;
        let mut caller = Caller::get(&gateway, client).await;
        for _ in 0..64 {
            assert_eq!(caller.interim().await, hint());
        }
        assert_eq!(
            caller.answer().await,
            (200, "ok".to_owned()),
            "{client} {upstream}"
        );
    }
}

#[tokio::test]
async fn the_upstream_decides_when_a_client_may_continue() {
    const STEPS: &[Step] = &[
        HINT,
        Step::Wait,
        Step::Interim(100, &[], 1),
        Step::Content,
        Step::Answer(200, "ok"),
    ];
    for (client, upstream) in VERSIONS {
        let stepwise = Stepwise::start(upstream, STEPS).await;
        let gateway = stepwise.gateway().await;
        let mut caller = Caller::expecting(&gateway, client).await;
        assert_eq!(caller.interim().await, hint(), "nothing came before");
        stepwise.go_on();
        assert_eq!(caller.interim().await, Some((100, Vec::new())));
        caller.send().await;
        assert_eq!(
            caller.answer().await,
            (200, "ok".to_owned()),
            "{client} {upstream}"
        );
        assert_eq!(stepwise.notes(2).await, ["expect 100-continue", CONTENT]);
    }
}

#[tokio::test]
async fn an_upstream_that_wants_no_content_is_sent_none() {
    for (client, upstream) in VERSIONS {
        for (status, steps) in [
            (401, &[HINT, Step::Wait, Step::Answer(401, "no!!"), Step::Content]),
            (413, &[HINT, Step::Wait, Step::Answer(413, "no!!"), Step::Content]),
            (417, &[HINT, Step::Wait, Step::Answer(417, "no!!"), Step::Content]),
        ] {
            let stepwise = Stepwise::start(upstream, steps).await;
            let gateway = stepwise.gateway().await;
            let mut caller = Caller::expecting(&gateway, client).await;
            assert_eq!(caller.interim().await, hint(), "nothing came before");
            stepwise.go_on();
            let answer = caller.answer().await;
            assert_eq!(answer, (status, "no!!".to_owned()), "{client} {upstream}");
            caller.refused_content().await;
            assert_eq!(stepwise.notes(2).await, ["expect 100-continue", "no content"]);
        }
    }
}

#[tokio::test]
async fn an_http2_client_may_continue_where_the_upstream_knows_nothing_of_it() {
    const STEPS: &[Step] = &[Step::Content, Step::Answer(200, "ok")];
    for upstream in [false, true] {
        let stepwise = Stepwise::start(upstream, STEPS).await;
        let gateway = stepwise.gateway().await;
        let mut caller = Caller::expecting(&gateway, true).await;
        assert_eq!(caller.interim().await, Some((100, Vec::new())));
        caller.send().await;
        assert_eq!(caller.answer().await, (200, "ok".to_owned()), "{upstream}");
        assert_eq!(stepwise.notes(2).await, ["expect 100-continue", CONTENT]);
    }
}
