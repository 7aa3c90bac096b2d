use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::Body;
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tower::BoxError;

use super::*;
use crate::kubernetes::kinds::KINDS;

/// What the API server does with a request.
enum Answer {
    Json(u16, Value),
    /// The chunks of a body, and what comes after them.
    Chunks(Vec<Vec<u8>>, After),
    Silence,
}

#[derive(Clone, Copy)]
enum After {
    End,
    Silence,
}

struct Played {
    ear: Receiver<(usize, Heard)>,
    /// What was asked, and when.
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

/// Follows Mappings of a server that answers so, and is silent then. Time passes while all wait.
fn play(answers: impl IntoIterator<Item = Answer>) -> Played {
    play_in(None, answers)
}

fn play_in(namespace: Option<&str>, answers: impl IntoIterator<Item = Answer>) -> Played {
    let asked = Arc::<Mutex<Vec<(String, Instant)>>>::default();
    let noted = Arc::clone(&asked);
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
    let service = tower::service_fn(move |request: Request<Body>| {
        if request.uri() == "/readyz" {
            let ready = Answer::Chunks(vec![b"ok".to_vec()], After::End);
            return ready.response().map(Ok::<_, BoxError>).boxed();
        }
        noted
            .lock()
            .unwrap()
            .push((request.uri().to_string(), Instant::now()));
        let next = answers.lock().unwrap().pop_front().unwrap_or(Answer::Silence);
        next.response().map(Ok::<_, BoxError>).boxed()
    });
    let kind = &KINDS[0];
    let resource: ApiResource = kind.resource();
    let client = Client::new(service, "default");
    let (sender, ear) = channel(100);
    let follower = Follower {
        api: Api::all_with(client.clone(), &resource),
        client,
        kind,
        number: 0,
        namespace: namespace.map(Arc::from),
        labels: None,
        fields: None,
        reach: Arc::default(),
        ears: vec![sender],
    };
    tokio::spawn(async move { follower.follow().await });
    Played { ear, asked }
}

impl Answer {
    async fn response(self) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let (code, chunks, after) = match self {
            Self::Silence => std::future::pending().await,
            Self::Json(code, value) => (code, vec![value.to_string().into_bytes()], After::End),
            Self::Chunks(chunks, after) => (200, chunks, after),
        };
        let frames = chunks
            .into_iter()
            .map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
        let frames = futures_util::stream::iter(frames);
        let body = match after {
            After::End => StreamBody::new(frames).boxed_unsync(),
            After::Silence => StreamBody::new(frames.chain(futures_util::stream::pending())).boxed_unsync(),
        };
        Response::builder().status(code).body(body).unwrap()
    }
}

impl Played {
    async fn next(&mut self) -> Heard {
        self.ear.recv().await.unwrap().1
    }

    /// The next trouble, in words.
    async fn trouble(&mut self) -> String {
        loop {
            if let Heard::Trouble(trouble) = self.next().await {
                return trouble.to_string();
            }
        }
    }

    /// Waits for this request, counted from 0: its address, and how long after the one before it came.
    async fn asked(&mut self, number: usize) -> (String, Duration) {
        loop {
            let asked = self.asked.lock().unwrap().clone();
            if let Some((uri, at)) = asked.get(number) {
                let before = number.checked_sub(1).map_or(*at, |before| asked[before].1);
                return (uri.clone(), *at - before);
            }
            // Whatever is heard meanwhile makes room for more.
            let _ = timeout(Duration::from_millis(10), self.ear.recv()).await;
        }
    }

    async fn asks_to_watch(&mut self, number: usize, version: &str) {
        let (uri, _) = self.asked(number).await;
        let wanted = format!("resourceVersion={version}");
        assert!(uri.contains("watch=true") && uri.ends_with(&wanted), "{uri}");
    }

    async fn asks_to_list(&mut self, number: usize) {
        let (uri, _) = self.asked(number).await;
        assert!(!uri.contains("watch=true") && !uri.contains("continue="), "{uri}");
    }
}

fn mapping(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping",
        "metadata": {"name": name, "namespace": "a", "resourceVersion": version}, "spec": {"prefix": "/ä"},
    })
}

fn page(version: &str, token: &str, names: &[&str]) -> Answer {
    let items: Vec<_> = names.iter().map(|name| mapping(name, "1")).collect();
    let metadata = json!({"resourceVersion": version, "continue": token});
    Answer::Json(
        200,
        json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}),
    )
}

fn status(code: u16, message: &str, details: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "x", "code": code, "details": details,
    })
}

fn refusal(code: u16) -> Answer {
    Answer::Json(code, status(code, "no", &json!({})))
}

fn event(kind: &str, object: &Value) -> Vec<u8> {
    format!("{}\n", json!({"type": kind, "object": object})).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_and_asked_again() {
    let mut played = play([]);
    assert!(played.trouble().await.contains("a list no answer in time"));
    played.asks_to_list(1).await;
    let (_, waited) = played.asked(1).await;
    assert!(waited >= LIST_LIMIT && waited < LIST_LIMIT * 2, "{waited:?}");

    let mut played = play([page("5", "", &["m"])]);
    assert!(played.trouble().await.contains("a watch no answer in time"));
    played.asks_to_watch(2, "5").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_begun_again_without_a_word() {
    let events = vec![event("MODIFIED", &mapping("m", "6"))];
    let answers = [
        page("5", "", &["m"]),
        Answer::Chunks(events, After::Silence),
        Answer::Chunks(Vec::new(), After::Silence),
    ];
    let mut played = play(answers);
    played.asks_to_watch(1, "5").await;
    loop {
        match played.next().await {
            Heard::Trouble(trouble) => panic!("{trouble}"),
            // The second time.
            Heard::Watching if played.asked.lock().unwrap().len() > 2 => break,
            _ => {}
        }
    }
    played.asks_to_watch(2, "6").await;
    let (_, waited) = played.asked(2).await;
    assert!(waited >= SILENCE && waited < SILENCE * 2, "{waited:?}");
}

/// A server that was restored from a backup takes our version for one that is yet to come, and tells nothing.
#[tokio::test(start_paused = true)]
async fn a_watch_that_told_nothing_leads_to_a_list_where_the_server_is_behind() {
    let silent = || Answer::Chunks(Vec::new(), After::Silence);
    let answers = [
        page("50", "", &["m"]),
        silent(),
        // Somewhere else things have changed: all is well.
        page("61", "more", &["m"]),
        silent(),
        page("9", "more", &["m"]),
        page("9", "", &["m"]),
    ];
    let mut played = play(answers);
    played.asks_to_watch(1, "50").await;
    assert!(played.asked(2).await.0.contains("limit=1"));
    played.asks_to_watch(3, "50").await;
    assert!(played.asked(4).await.0.contains("limit=1"));
    played.asks_to_list(5).await;
    played.asks_to_watch(6, "9").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_no_good_any_more_leads_to_a_list() {
    let future = |details: &Value| status(504, "Timeout: Too large resource version: 9, current: 3", details);
    let cause = json!({"causes": [{"reason": "ResourceVersionTooLarge"}], "retryAfterSeconds": 1});
    let gone = status(410, "too old resource version", &json!({}));
    for refused in [
        Answer::Json(504, future(&cause)),
        Answer::Json(504, future(&json!({}))),
        Answer::Json(410, gone.clone()),
        Answer::Chunks(vec![event("ERROR", &gone)], After::Silence),
        Answer::Chunks(vec![event("ERROR", &future(&cause))], After::End),
        refusal(404),
        refusal(403),
    ] {
        let mut played = play([page("5", "", &["m"]), refused, page("3", "", &["m"])]);
        played.asks_to_watch(1, "5").await;
        played.asks_to_list(2).await;
        played.asks_to_watch(3, "3").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_has_of_its_own_costs_no_list_at_first_and_one_in_the_end() {
    let error = status(500, "etcd is not well", &json!({}));
    let mut answers = vec![page("5", "", &["m"])];
    for number in 1..=WATCH_FAILURES {
        answers.push(match number % 3 {
            0 => refusal(500),
            1 => Answer::Chunks(vec![event("ERROR", &error)], After::Silence),
            _ => Answer::Chunks(Vec::new(), After::End),
        });
    }
    answers.push(page("7", "", &["m"]));
    let mut played = play(answers);
    let failures = usize::try_from(WATCH_FAILURES).unwrap();
    for number in 1..=failures {
        played.asks_to_watch(number, "5").await;
    }
    played.asks_to_list(failures + 1).await;
    played.asks_to_watch(failures + 2, "7").await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks_within_reason() {
    // One that starts says 503, and is there sooner than it says.
    for (code, asked, least, most) in [
        (429, 0, 1, 3),
        (429, 7, 7, 10),
        (429, 3600, 30, 38),
        (503, 10, 2, 3),
    ] {
        let details = json!({"retryAfterSeconds": asked});
        let busy = || Answer::Json(code, status(code, "not now", &details));
        let mut played = play([page("5", "", &["m"]), busy()]);
        assert!(played.trouble().await.contains("not now"));
        // The version is still good.
        played.asks_to_watch(2, "5").await;
        let (_, waited) = played.asked(2).await;
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
        assert!(waited >= least && waited <= most, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_gets_an_answer_ends_the_pauses_of_the_others() {
    const PAUSE: Duration = Duration::from_secs(3);
    let reach = Arc::new(Reach::default());
    let pause = || {
        let (reach, begun) = (Arc::clone(&reach), Instant::now());
        tokio::spawn(async move {
            reach.pause(PAUSE).await;
            begun.elapsed()
        })
    };
    let others = [pause(), pause(), pause()];
    sleep(Duration::from_secs(1)).await;
    reach.note_answer();
    for other in others {
        assert!(other.await.unwrap() <= Duration::from_secs(1) + SOON);
    }
    assert_eq!(pause().await.unwrap(), PAUSE, "nobody had an answer since");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_known_has_no_answer_and_who_may_not_has_one() {
    let (unknown, forbidden) = (refused(&answer(401)), refused(&answer(403)));
    assert!(matches!(unknown, Stop::Trouble(trouble) if !trouble.lasts()));
    assert!(matches!(forbidden, Stop::Trouble(trouble) if trouble.lasts()));
    assert!(matches!(refused(&answer(400)), Stop::Trouble(trouble) if !trouble.lasts()));
}

fn answer(code: u16) -> Status {
    serde_json::from_value(status(code, "no", &json!({}))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_page_may_be_empty_and_must_not_lead_to_itself() {
    let mut played = play([
        page("5", "one", &[]),
        page("5", "two", &["m"]),
        page("5", "", &[]),
    ]);
    let mut names = Vec::new();
    loop {
        match played.next().await {
            Heard::Object(found) => names.push(found.key.name.to_string()),
            Heard::Complete => break,
            Heard::Trouble(trouble) => panic!("{trouble}"),
            _ => {}
        }
    }
    assert_eq!(names, ["m"]);

    let mut played = play([page("5", "one", &[]), page("5", "one", &[])]);
    assert!(played.trouble().await.contains("leads to itself"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_cut_in_a_letter_is_asked_for_again() {
    let whole = event("MODIFIED", &mapping("m", "6"));
    let cut = event("MODIFIED", &mapping("m", "7"));
    let letter = cut.windows(2).position(|two| two == "ä".as_bytes()).unwrap();
    let half = cut[..=letter].to_vec();
    let answers = [
        page("5", "", &["m"]),
        Answer::Chunks(vec![whole, half], After::End),
        Answer::Chunks(vec![cut], After::Silence),
    ];
    let mut played = play(answers);
    let mut objects = 0;
    while objects < 3 {
        match played.next().await {
            Heard::Object(_) => objects += 1,
            Heard::Unreadable(..) | Heard::Gone(_) => panic!("half an event is none"),
            _ => {}
        }
    }
    played.asks_to_watch(2, "6").await;
}

#[tokio::test(start_paused = true)]
async fn k16_an_answer_that_cannot_be_read_is_not_quoted() {
    let answer = json!({"metadata": {"resourceVersion": "5"}, "items": ["MIIEpAIBAAKCAQEA"]});
    let mut played = play([Answer::Json(200, answer)]);
    let trouble = played.trouble().await;
    assert!(
        trouble.contains("cannot be read") && !trouble.contains("MIIE"),
        "{trouble}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_one_namespace_says_so() {
    let mut played = play_in(Some("a"), [page("5", "", &["m"]), refusal(403)]);
    let mut within = Vec::new();
    while within.len() < 3 {
        match played.next().await {
            Heard::Within(namespace, heard) => within.push((namespace, heard)),
            Heard::Object(found) => assert_eq!(&*found.key.namespace, "a"),
            other => panic!("{other:?}"),
        }
    }
    assert!(within.iter().all(|(namespace, _)| &**namespace == "a"));
    assert!(matches!(*within[0].1, Heard::Begin) && matches!(*within[1].1, Heard::Complete));
    assert!(matches!(*within[2].1, Heard::Trouble(Trouble::Forbidden(_))));
}
