//! A Kubernetes API server for tests: lists with pages, watches with bookmarks, versions, server-side apply of
//! what is sent, and the faults that real ones have, on demand.
//!
//! It keeps to what a real one answers; where it is simpler, a real one would be stricter: nothing is
//! validated, and a later page of a list shows the present, not the moment of its first page.

mod answers;
mod apply;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use self::answers::{Body, answer, answer_text, cut_off, failure, status};
use self::apply::merge;
use self::place::{Place, parameter, verb};

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

/// The server; it ends when dropped.
pub struct ApiServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Rises with each event that watches may have to tell.
    changed: watch::Sender<u64>,
    connections: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Watches and pages from before this version are refused.
    compacted: u64,
    objects: BTreeMap<String, BTreeMap<(String, String), Stored>>,
    history: Vec<Happened>,
    forbidden: BTreeSet<String>,
    /// Resources that may be read in a namespace although they are forbidden.
    granted: BTreeSet<(String, String)>,
    /// Nobody is known.
    is_strange: bool,
    absent: BTreeSet<String>,
    /// For the second and later pages of a list.
    faults: BTreeMap<String, Vec<Fault>>,
    /// Watches end in the middle of an event when they see this rise.
    cuts: u64,
    asked: Vec<Asked>,
    /// Bytes of lists and of events of watches.
    sent: usize,
    /// Writes of a status that fail from now on.
    failing_statuses: usize,
    /// Names of objects whose status can never be written.
    spoilt: BTreeSet<String>,
    /// Resources whose definition has no `status.conditions`.
    without_conditions: BTreeSet<String>,
    /// The status that each field manager applied last, by resource, key and manager.
    applied: BTreeMap<(String, (String, String), String), Value>,
}

/// An object, and its text: what is listed and told often is written once.
struct Stored {
    object: Value,
    text: Arc<str>,
}

#[derive(Clone)]
struct Happened {
    version: u64,
    plural: String,
    namespace: String,
    kind: &'static str,
    text: Arc<str>,
}

impl ApiServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                version: 1,
                ..State::default()
            }),
            changed: watch::channel(1).0,
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Goes away: nobody listens any more, and every connection is cut.
    pub async fn go_away(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    /// Comes back at the same address.
    pub async fn come_back(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(128).unwrap();
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    /// Forgets what happened so far: older versions are too old now.
    pub fn compact(&self) {
        let mut state = self.shared.lock();
        state.compacted = state.version;
        state.history.clear();
    }

    /// Ends every watch in the middle of an event.
    pub fn cut_watches(&self) {
        self.shared.lock().cuts += 1;
        self.shared.tell();
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

    /// How often this was asked.
    pub fn count(&self, verb: &str, plural: &str) -> usize {
        let state = self.shared.lock();
        let asked = state.asked.iter();
        asked
            .filter(|asked| asked.verb == verb && asked.plural == plural)
            .count()
    }

    /// Puts an object there or changes it, as if through the API; its status stays. Its document needs
    /// `apiVersion`, `kind`, and `metadata` with name and namespace.
    pub fn put(&self, object: &Value) {
        let place = Place::of(object);
        let mut object = object.clone();
        let before = self.object(&place.plural, &place.namespace, &place.name);
        if let Some(status) = before.as_ref().and_then(|before| before.get("status")) {
            object["status"] = status.clone();
        }
        self.shared.lock().put(&place, object);
        self.shared.tell();
    }

    /// Takes an object away.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.shared.lock().remove(plural, namespace, name);
        self.shared.tell();
    }

    /// An object as it is.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.shared.lock();
        let key = (namespace.to_owned(), name.to_owned());
        Some(state.objects.get(plural)?.get(&key)?.object.clone())
    }

    /// All objects of a resource.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let state = self.shared.lock();
        state
            .objects
            .get(plural)
            .into_iter()
            .flat_map(|all| all.values().map(|stored| stored.object.clone()))
            .collect()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&serving);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            // A connection that was cut is what some tests are about.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        shared.connections.lock().unwrap().push(task.abort_handle());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let Some(place) = Place::parse(parts.uri.path()) else {
            return status(
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource",
            );
        };
        let verb = verb(&parts.method, &place, &query);
        {
            let mut state = self.lock();
            state.asked.push(Asked {
                verb,
                plural: place.plural.clone(),
                subresource: place.subresource.clone(),
                namespace: place.namespace.clone(),
                name: place.name.clone(),
                query: query.clone(),
                body: body.clone(),
            });
            let subresource = format!("{}/{}", place.plural, place.subresource);
            if state.absent.contains(&place.plural) || state.absent.contains(&subresource) {
                let message = "the server could not find the requested resource";
                return status(StatusCode::NOT_FOUND, "NotFound", message);
            }
            if state.is_strange {
                return status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
            }
            let granted = (place.plural.clone(), place.namespace.clone());
            let is_forbidden = state.forbidden.contains(&place.plural) && !state.granted.contains(&granted);
            if is_forbidden || state.forbidden.contains(&subresource) {
                let message = format!("{} is forbidden: User \"nuncio\" cannot {verb} it", place.plural);
                return status(StatusCode::FORBIDDEN, "Forbidden", &message);
            }
        }
        match verb {
            "watch" => self.watch(&place, &query),
            "list" => self.lock().list(&place, &query),
            _ => {
                let answer = self.lock().change(verb, &place, &query, body);
                self.tell();
                answer
            }
        }
    }

    fn watch(self: &Arc<Self>, place: &Place, query: &str) -> Response<Body> {
        let from: u64 = parameter(query, "resourceVersion")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(16);
        let (shared, place) = (Arc::clone(self), place.clone());
        let cuts = shared.lock().cuts;
        let bookmarks = parameter(query, "allowWatchBookmarks").as_deref() == Some("true");
        tokio::spawn(async move { shared.tell_watch(&place, from, cuts, bookmarks, &sender).await });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = BodyExt::boxed(StreamBody::new(Box::pin(stream)));
        Response::builder()
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    }

    async fn tell_watch(
        &self,
        place: &Place,
        mut from: u64,
        cuts: u64,
        bookmarks: bool,
        sender: &mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
    ) {
        let mut changed = self.changed.subscribe();
        loop {
            let (lines, cut, expired) = {
                let mut state = self.lock();
                let expired = from < state.compacted;
                let lines = state.since(place, from);
                let lines: Vec<_> = lines.iter().map(Happened::line).collect();
                let (cut, before) = (state.cuts > cuts, from);
                from = state.version;
                let mut lines = lines;
                if bookmarks && lines.is_empty() && from > before {
                    lines.push(bookmark(place, from));
                }
                state.sent += lines.iter().map(String::len).sum::<usize>();
                (lines, cut, expired)
            };
            if expired {
                let gone =
                    json!({"type": "ERROR", "object": failure(410, "Expired", "too old resource version")});
                let _ = sender.send(Ok(Frame::data(format!("{gone}\n").into()))).await;
                return;
            }
            for line in lines {
                if sender.send(Ok(Frame::data(line.into()))).await.is_err() {
                    return;
                }
            }
            if cut {
                let half = r#"{"type":"MODIFIED","object":{"apiVersion":"v1","ki"#;
                let _ = sender.send(Ok(Frame::data(half.into()))).await;
                let _ = sender.send(Err(std::io::Error::other("cut"))).await;
                return;
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }
}

impl State {
    fn put(&mut self, place: &Place, mut object: Value) -> Value {
        self.version += 1;
        let key = (place.namespace.clone(), place.name.clone());
        let objects = self.objects.entry(place.plural.clone()).or_default();
        let before = objects.get(&key).map(|stored| &stored.object);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["uid"] = match before {
            Some(before) => before["metadata"]["uid"].clone(),
            None => format!("uid-{}", self.version).into(),
        };
        let generation = match before {
            None => 1,
            Some(before) => {
                let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
                generation + i64::from(before.get("spec") != object.get("spec"))
            }
        };
        object["metadata"]["generation"] = generation.into();
        object["apiVersion"] = place.api_version.clone().into();
        object["kind"] = place.kind.clone().into();
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let text: Arc<str> = object.to_string().into();
        let stored = Stored {
            object: object.clone(),
            text: Arc::clone(&text),
        };
        objects.insert(key, stored);
        self.note(place, kind, text);
        object
    }

    fn remove(&mut self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut object = self.objects.get_mut(plural)?.remove(&key)?.object;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let place = Place {
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            ..Place::default()
        };
        self.note(&place, "DELETED", object.to_string().into());
        Some(object)
    }

    fn note(&mut self, place: &Place, kind: &'static str, text: Arc<str>) {
        self.history.push(Happened {
            version: self.version,
            plural: place.plural.clone(),
            namespace: place.namespace.clone(),
            kind,
            text,
        });
    }

    fn since(&self, place: &Place, version: u64) -> Vec<Happened> {
        let first = self
            .history
            .partition_point(|happened| happened.version <= version);
        let ours = self.history[first..].iter().filter(|happened| {
            let in_place = place.namespace.is_empty() || place.namespace == happened.namespace;
            happened.plural == place.plural && in_place
        });
        ours.cloned().collect()
    }

    fn list(&mut self, place: &Place, query: &str) -> Response<Body> {
        let limit: usize = parameter(query, "limit")
            .and_then(|text| text.parse().ok())
            .unwrap_or(usize::MAX);
        let mut after = None;
        if let Some(token) = parameter(query, "continue").filter(|token| !token.is_empty()) {
            let (version, rest) = token.split_once('.').unwrap_or(("0", ""));
            let fault = self
                .faults
                .get_mut(&place.plural)
                .filter(|faults| !faults.is_empty());
            let fault = fault.map(|faults| faults.remove(0));
            if fault == Some(Fault::Expired) || version.parse::<u64>().unwrap_or(0) < self.compacted {
                let message = "the provided continue parameter is too old";
                return status(StatusCode::GONE, "Expired", message);
            }
            match fault {
                Some(Fault::Internal) => {
                    return status(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "InternalError",
                        "etcd is not well",
                    );
                }
                Some(Fault::CutOff) => return cut_off(),
                _ => {}
            }
            let (namespace, name) = rest.split_once('.').unwrap_or_default();
            after = Some((namespace.to_owned(), name.to_owned()));
        }
        let none = BTreeMap::new();
        let objects = self.objects.get(&place.plural).unwrap_or(&none);
        let wanted = objects
            .iter()
            .filter(|((namespace, _), _)| place.namespace.is_empty() || place.namespace == *namespace);
        let mut rest = wanted.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), self.version.to_string().into());
        if rest.next().is_some()
            && let Some(((namespace, name), _)) = page.last()
        {
            let token = format!("{}.{namespace}.{name}", self.version);
            metadata.insert("continue".into(), token.into());
        }
        let items: Vec<&str> = page.iter().map(|(_, stored)| &*stored.text).collect();
        let kind = format!("{}List", place.kind);
        let body = format!(
            "{{\"apiVersion\":\"{}\",\"kind\":\"{kind}\",\"metadata\":{},\"items\":[{}]}}",
            place.api_version,
            Value::Object(metadata),
            items.join(",")
        );
        self.sent += body.len();
        answer_text(StatusCode::OK, body)
    }

    fn change(&mut self, verb: &str, place: &Place, query: &str, body: Value) -> Response<Body> {
        let key = (place.namespace.clone(), place.name.clone());
        let current = self
            .objects
            .get(&place.plural)
            .and_then(|all| all.get(&key))
            .map(|stored| stored.object.clone());
        let missing = || {
            let message = format!("{} \"{}\" not found", place.plural, place.name);
            status(StatusCode::NOT_FOUND, "NotFound", &message)
        };
        let object = match (verb, current) {
            ("get", Some(object)) => object,
            ("delete", Some(_)) => match self.remove(&place.plural, &place.namespace, &place.name) {
                Some(object) => object,
                None => return missing(),
            },
            ("create", _) => {
                let name = body["metadata"]["name"].as_str().map(str::to_owned);
                let prefix = body["metadata"]["generateName"].as_str().unwrap_or("object-");
                let name = name.unwrap_or_else(|| format!("{prefix}{}", self.version));
                let key = (place.namespace.clone(), name.clone());
                if self
                    .objects
                    .get(&place.plural)
                    .is_some_and(|all| all.contains_key(&key))
                {
                    let message = format!("{} \"{name}\" already exists", place.plural);
                    return status(StatusCode::CONFLICT, "AlreadyExists", &message);
                }
                let place = Place {
                    name: name.clone(),
                    ..place.clone()
                };
                let mut body = body;
                body["metadata"]["name"] = name.into();
                body["metadata"]["namespace"] = place.namespace.clone().into();
                let object = self.put(&place, body);
                return answer(StatusCode::CREATED, &object);
            }
            ("update", Some(current)) => {
                let sent = &body["metadata"]["resourceVersion"];
                if sent.is_string() && *sent != current["metadata"]["resourceVersion"] {
                    let message =
                        "the object has been modified; please apply your changes to the latest version";
                    return status(StatusCode::CONFLICT, "Conflict", message);
                }
                self.put(place, body)
            }
            ("patch", Some(current)) if place.subresource == "status" => {
                return self.apply_status(place, query, current, &body);
            }
            ("patch", Some(mut current)) => {
                let fields = ["spec", "data", "metadata", "series"];
                for field in &fields {
                    if let Some(value) = body.get(*field) {
                        merge(&mut current[*field], value);
                    }
                }
                self.put(place, current)
            }
            // Server-side apply creates.
            ("patch", None) if place.subresource.is_empty() => self.put(place, body),
            _ => return missing(),
        };
        answer(StatusCode::OK, &object)
    }
}

impl Happened {
    fn line(&self) -> String {
        format!("{{\"type\":\"{}\",\"object\":{}}}\n", self.kind, self.text)
    }
}

fn bookmark(place: &Place, version: u64) -> String {
    let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    let object = json!({"apiVersion": place.api_version, "kind": place.kind, "metadata": metadata});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}
