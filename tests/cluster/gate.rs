//! What stands between a gateway and the API server of a test: it writes down what is asked, and has the faults that
//! API servers have, on demand. What it lets through is answered by the server behind it, which may be a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};

use super::answers::{Body, answer_text, cut_off, failure, status};
use super::place::{Place, parameter, verb};
use super::serving::Serving;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `list`, `watch`, `get`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    pub plural: String,
    /// `status` where that was meant.
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub query: String,
    /// Its User-Agent.
    pub agent: String,
    pub body: Value,
}

/// What goes wrong with the next page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The continue token is too old.
    Expired,
    /// The server has an error of its own.
    Internal,
    /// The answer breaks off in the middle.
    CutOff,
}

/// It ends when dropped.
pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// None while it is away.
    serving: Option<Serving>,
}

struct Shared {
    /// The server behind, as the gateway's account.
    server: Client,
    state: Mutex<State>,
    /// Watches end in the middle of an event when they see this rise.
    cuts: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Watches from before this version are refused.
    compacted: u64,
    forbidden: BTreeSet<String>,
    /// Resources that may be read in a namespace although they are forbidden.
    granted: BTreeSet<(String, String)>,
    /// Nobody is known.
    is_strange: bool,
    /// It has read some of its roles and definitions, and not all.
    is_starting: bool,
    absent: BTreeSet<String>,
    /// For the second and later pages of a list.
    faults: BTreeMap<String, Vec<Fault>>,
    asked: Vec<Asked>,
    /// Bytes of lists and of events of watches.
    sent: usize,
    /// Writes of a status that fail from now on.
    failing_statuses: usize,
    /// Names of objects whose status can never be written.
    spoilt: BTreeSet<String>,
    /// Resources whose definition has no `status.conditions`.
    without_conditions: BTreeSet<String>,
}

impl Gate {
    pub async fn before(server: Client) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            state: Mutex::default(),
            cuts: watch::channel(0).0,
        });
        Self {
            address,
            serving: Some(shared.serve(listener)),
            shared,
        }
    }

    /// The server goes away: nobody listens any more, and every connection is cut.
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.end().await;
        }
    }

    /// It comes back at the same address.
    pub async fn come_back(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(128).unwrap();
        self.serving = Some(self.shared.serve(listener));
    }

    /// Forgets what happened up to this version: to watch from before it is refused.
    pub fn compact(&self, version: u64) {
        self.shared.lock().compacted = version;
    }

    /// Ends every watch in the middle of an event.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nobody ask anything of a resource, such as `mappings` or `mappings/status`, or lets everybody again.
    pub fn forbid(&self, plural: &str, forbidden: bool) {
        let mut state = self.shared.lock();
        if forbidden {
            state.forbidden.insert(plural.to_owned());
        } else {
            state.forbidden.remove(plural);
        }
    }

    /// Lets everybody list, watch and read a forbidden resource in one namespace.
    pub fn grant_in(&self, plural: &str, namespace: &str) {
        let mut state = self.shared.lock();
        state.granted.insert((plural.to_owned(), namespace.to_owned()));
    }

    /// Knows nobody any more, as after a token has ended, or everybody again.
    pub fn know_nobody(&self, is_strange: bool) {
        self.shared.lock().is_strange = is_strange;
    }

    /// Answers as an API server that has just started, which says of itself that it is not ready, and refuses most of
    /// what it will allow; or no more.
    pub fn starts(&self, is_starting: bool) {
        self.shared.lock().is_starting = is_starting;
    }

    /// Takes the definition of a resource away, such as `mappings` or `mappings/status`, or installs it.
    pub fn install(&self, plural: &str, installed: bool) {
        let mut state = self.shared.lock();
        if installed {
            state.absent.remove(plural);
        } else {
            state.absent.insert(plural.to_owned());
        }
    }

    /// Lets the next writes of a status fail.
    pub fn fail_statuses(&self, count: usize) {
        self.shared.lock().failing_statuses = count;
    }

    /// Lets each write of the status of this object fail, as for an object that does not fit its definition.
    pub fn spoil(&self, name: &str) {
        self.shared.lock().spoilt.insert(name.to_owned());
    }

    /// Has a definition of a resource that knows no `status.conditions`.
    pub fn drop_conditions(&self, plural: &str) {
        self.shared.lock().without_conditions.insert(plural.to_owned());
    }

    /// Lets the next later pages of a resource's lists fail, one after the other.
    pub fn fail_pages(&self, plural: &str, faults: &[Fault]) {
        let mut state = self.shared.lock();
        state.faults.insert(plural.to_owned(), faults.to_vec());
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// Bytes of lists and of events of watches that were sent so far.
    pub fn sent(&self) -> usize {
        self.shared.lock().sent
    }

    /// How often everything of a resource was asked for, by its first pages; a list of one object asks for its version.
    pub fn lists(&self, plural: &str) -> usize {
        let is_first = |asked: &&Asked| {
            let limit = parameter(&asked.query, "limit");
            asked.verb == "list"
                && asked.plural == plural
                && limit.as_deref() != Some("1")
                && parameter(&asked.query, "continue").is_none()
        };
        self.shared.lock().asked.iter().filter(is_first).count()
    }

    /// How often this was asked.
    pub fn count(&self, verb: &str, plural: &str) -> usize {
        let state = self.shared.lock();
        let asked = state.asked.iter();
        asked
            .filter(|asked| asked.verb == verb && asked.plural == plural)
            .count()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) -> Serving {
        let shared = Arc::clone(self);
        Serving::start(listener, move |request| Arc::clone(&shared).answer(request))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return status(StatusCode::BAD_REQUEST, "BadRequest", "the body broke off"),
        };
        if parts.uri.path() == "/readyz" {
            return match self.lock().is_starting {
                true => answer_text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "readyz check failed".to_owned(),
                ),
                false => answer_text(StatusCode::OK, "ok".to_owned()),
            };
        }
        let Some(place) = Place::parse(parts.uri.path()) else {
            return not_found();
        };
        let query = parts.uri.query().unwrap_or_default();
        let asked = Asked {
            verb: verb(&parts.method, &place, query),
            plural: place.plural,
            subresource: place.subresource,
            namespace: place.namespace,
            name: place.name,
            query: query.to_owned(),
            agent: parts
                .headers
                .get(header::USER_AGENT)
                .map_or_else(String::new, |agent| {
                    String::from_utf8_lossy(agent.as_bytes()).into_owned()
                }),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let verb = asked.verb;
        let fault = self.lock().note(asked);
        if let Some(fault) = fault {
            return fault;
        }
        let cuts = *self.cuts.borrow();
        let answer = self.forward(parts, body).await;
        match verb {
            "watch" => self.pass_on(answer, Some(cuts)),
            "list" => self.pass_on(answer, None),
            _ => answer,
        }
    }

    /// What the server behind says.
    async fn forward(&self, parts: http::request::Parts, body: Bytes) -> Response<Body> {
        let mut request = Request::builder().method(parts.method).uri(parts.uri);
        for (name, value) in &parts.headers {
            // Who asks, and over which connection, is for the client to say.
            if ![header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH].contains(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(kube::client::Body::from(body)).unwrap();
        match self.server.send(request).await {
            Ok(answer) => answer.map(|body| {
                BodyExt::boxed_unsync(body.map_err(|error| std::io::Error::other(error.to_string())))
            }),
            Err(error) => status(StatusCode::BAD_GATEWAY, "", &format!("no answer: {error}")),
        }
    }

    /// Counts what is sent; where `cuts` is given, it breaks off in the middle of an event once there are more.
    fn pass_on(self: &Arc<Self>, answer: Response<Body>, cuts: Option<u64>) -> Response<Body> {
        let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(16);
        let (shared, (parts, body)) = (Arc::clone(self), answer.into_parts());
        tokio::spawn(async move {
            let mut body = body;
            let mut seen = shared.cuts.subscribe();
            let cut = async {
                match cuts {
                    Some(cuts) => drop(seen.wait_for(|now| *now > cuts).await),
                    None => std::future::pending().await,
                }
            };
            let mut cut = pin!(cut);
            loop {
                tokio::select! {
                    () = &mut cut => {
                        let half = r#"{"type":"MODIFIED","object":{"apiVersion":"v1","ki"#;
                        let _ = sender.send(Ok(Frame::data(half.into()))).await;
                        let _ = sender.send(Err(std::io::Error::other("cut"))).await;
                        return;
                    }
                    frame = body.frame() => {
                        let Some(frame) = frame else { return };
                        if let Ok(data) = frame.as_ref().map(Frame::data_ref) {
                            shared.lock().sent += data.map_or(0, Bytes::len);
                        }
                        if sender.send(frame).await.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        Response::from_parts(parts, BodyExt::boxed_unsync(StreamBody::new(Box::pin(stream))))
    }
}

impl State {
    /// Writes down what is asked; the answer where it goes no further.
    fn note(&mut self, asked: Asked) -> Option<Response<Body>> {
        let answer = self.fault(&asked);
        self.asked.push(asked);
        answer
    }

    fn fault(&mut self, asked: &Asked) -> Option<Response<Body>> {
        let subresource = format!("{}/{}", asked.plural, asked.subresource);
        if self.absent.contains(&asked.plural) || self.absent.contains(&subresource) {
            return Some(not_found());
        }
        if self.is_starting {
            match &*asked.plural {
                "listeners" | "services" | "secrets" => {}
                "endpointslices" => {
                    return Some(status(StatusCode::FORBIDDEN, "Forbidden", "it has no roles yet"));
                }
                _ => return Some(not_found()),
            }
        }
        if self.is_strange {
            return Some(status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"));
        }
        let granted = (asked.plural.clone(), asked.namespace.clone());
        let is_forbidden = self.forbidden.contains(&asked.plural) && !self.granted.contains(&granted);
        if is_forbidden || self.forbidden.contains(&subresource) {
            let (verb, plural) = (asked.verb, &asked.plural);
            let message = format!("{plural} is forbidden: User \"nuncio\" cannot {verb} it");
            return Some(status(StatusCode::FORBIDDEN, "Forbidden", &message));
        }
        match asked.verb {
            "watch" => self.watch_fault(asked),
            "list" => self.page_fault(asked),
            "patch" if asked.subresource == "status" => self.status_fault(asked),
            _ => None,
        }
    }

    fn watch_fault(&self, asked: &Asked) -> Option<Response<Body>> {
        let from = parameter(&asked.query, "resourceVersion")?;
        let is_old = from.parse::<u64>().is_ok_and(|from| from < self.compacted);
        is_old.then(|| {
            let gone =
                json!({"type": "ERROR", "object": failure(410, "Expired", "too old resource version")});
            answer_text(StatusCode::OK, format!("{gone}\n"))
        })
    }

    fn page_fault(&mut self, asked: &Asked) -> Option<Response<Body>> {
        parameter(&asked.query, "continue").filter(|token| !token.is_empty())?;
        let faults = self.faults.get_mut(&asked.plural)?;
        if faults.is_empty() {
            return None;
        }
        Some(match faults.remove(0) {
            Fault::Expired => {
                let message = "the provided continue parameter is too old";
                status(StatusCode::GONE, "Expired", message)
            }
            Fault::Internal => internal("etcd is not well"),
            Fault::CutOff => cut_off(),
        })
    }

    fn status_fault(&mut self, asked: &Asked) -> Option<Response<Body>> {
        if self.failing_statuses > 0 {
            self.failing_statuses -= 1;
            return Some(internal("etcd is not well"));
        }
        if self.spoilt.contains(&asked.name) {
            return Some(internal("Internal error occurred: failed calling webhook"));
        }
        let has_conditions = asked.body["status"].get("conditions").is_some();
        if has_conditions && self.without_conditions.contains(&asked.plural) {
            let message =
                "failed to create typed patch object: .status.conditions: field not declared in schema";
            return Some(status(StatusCode::INTERNAL_SERVER_ERROR, "", message));
        }
        None
    }
}

fn not_found() -> Response<Body> {
    let message = "the server could not find the requested resource";
    status(StatusCode::NOT_FOUND, "NotFound", message)
}

fn internal(message: &str) -> Response<Body> {
    status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
}
