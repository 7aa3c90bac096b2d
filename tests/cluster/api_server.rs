//! A Kubernetes API server for tests: lists with pages, watches with bookmarks, versions, server-side apply of
//! what is sent, and the faults that real ones have, on demand.
//!
//! It keeps to what a real one answers; where it is simpler, a real one would be stricter: nothing is
//! validated, and a later page of a list shows the present, not the moment of its first page.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

type Body = BoxBody<Bytes, std::io::Error>;

/// Every resource that it serves: group, version, plural, kind.
const RESOURCES: [(&str, &str, &str, &str); 18] = [
    ("getambassador.io", "v3alpha1", "mappings", "Mapping"),
    ("getambassador.io", "v3alpha1", "tlscontexts", "TLSContext"),
    ("getambassador.io", "v3alpha1", "hosts", "Host"),
    ("getambassador.io", "v3alpha1", "listeners", "Listener"),
    ("getambassador.io", "v3alpha1", "modules", "Module"),
    ("getambassador.io", "v3alpha1", "tcpmappings", "TCPMapping"),
    (
        "getambassador.io",
        "v3alpha1",
        "kubernetesserviceresolvers",
        "KubernetesServiceResolver",
    ),
    (
        "getambassador.io",
        "v3alpha1",
        "kubernetesendpointresolvers",
        "KubernetesEndpointResolver",
    ),
    ("getambassador.io", "v3alpha1", "consulresolvers", "ConsulResolver"),
    ("getambassador.io", "v3alpha1", "authservices", "AuthService"),
    ("getambassador.io", "v3alpha1", "ratelimitservices", "RateLimitService"),
    ("", "v1", "services", "Service"),
    ("", "v1", "endpoints", "Endpoints"),
    ("", "v1", "secrets", "Secret"),
    ("", "v1", "events", "Event"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    ("events.k8s.io", "v1", "events", "Event"),
    ("coordination.k8s.io", "v1", "leases", "Lease"),
];

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
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    history: Vec<Happened>,
    forbidden: BTreeSet<String>,
    absent: BTreeSet<String>,
    /// For the second and later pages of a list.
    faults: BTreeMap<String, Vec<Fault>>,
    /// Watches end in the middle of an event when they see this rise.
    cuts: u64,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Happened {
    version: u64,
    plural: String,
    kind: &'static str,
    object: Value,
}

/// Where a path leads.
#[derive(Clone, Debug, Default)]
struct Place {
    plural: String,
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    subresource: String,
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

    /// Lets nobody list, watch or read a resource, or lets everybody again.
    pub fn forbid(&self, plural: &str, forbidden: bool) {
        let mut state = self.shared.lock();
        if forbidden {
            state.forbidden.insert(plural.to_owned());
        } else {
            state.forbidden.remove(plural);
        }
    }

    /// Takes the definition of a resource away, or installs it.
    pub fn install(&self, plural: &str, installed: bool) {
        let mut state = self.shared.lock();
        if installed {
            state.absent.remove(plural);
        } else {
            state.absent.insert(plural.to_owned());
        }
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

    /// How often this was asked.
    pub fn count(&self, verb: &str, plural: &str) -> usize {
        let state = self.shared.lock();
        let asked = state.asked.iter();
        asked
            .filter(|asked| asked.verb == verb && asked.plural == plural)
            .count()
    }

    /// Puts an object there or changes it, as if through the API. Its document needs `apiVersion`, `kind`,
    /// and `metadata` with name and namespace.
    pub fn put(&self, object: &Value) {
        let place = Place::of(object);
        self.shared.lock().put(&place, object.clone());
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
        state.objects.get(plural)?.get(&key).cloned()
    }

    /// All objects of a resource.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let state = self.shared.lock();
        state
            .objects
            .get(plural)
            .into_iter()
            .flat_map(|all| all.values().cloned())
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
            if state.absent.contains(&place.plural) {
                let message = "the server could not find the requested resource";
                return status(StatusCode::NOT_FOUND, "NotFound", message);
            }
            if state.forbidden.contains(&place.plural) {
                let message = format!("{} is forbidden: User \"nuncio\" cannot {verb} it", place.plural);
                return status(StatusCode::FORBIDDEN, "Forbidden", &message);
            }
        }
        match verb {
            "watch" => self.watch(&place, &query),
            "list" => self.lock().list(&place, &query),
            _ => {
                let answer = self.lock().change(verb, &place, body);
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
                let state = self.lock();
                let expired = from < state.compacted;
                let lines = state.since(place, from);
                let lines: Vec<_> = lines.iter().map(Happened::line).collect();
                let (cut, before) = (state.cuts > cuts, from);
                from = state.version;
                let mut lines = lines;
                if bookmarks && lines.is_empty() && from > before {
                    lines.push(bookmark(place, from));
                }
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
        let before = objects.get(&key);
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
        objects.insert(key, object.clone());
        self.note(place, kind, object.clone());
        object
    }

    fn remove(&mut self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut object = self.objects.get_mut(plural)?.remove(&key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let place = Place {
            plural: plural.to_owned(),
            ..Place::default()
        };
        self.note(&place, "DELETED", object.clone());
        Some(object)
    }

    fn note(&mut self, place: &Place, kind: &'static str, object: Value) {
        self.history.push(Happened {
            version: self.version,
            plural: place.plural.clone(),
            kind,
            object,
        });
    }

    fn since(&self, place: &Place, version: u64) -> Vec<Happened> {
        let happened = self.history.iter().filter(|happened| happened.version > version);
        let ours = happened.filter(|happened| {
            let namespace = happened.object["metadata"]["namespace"]
                .as_str()
                .unwrap_or_default();
            happened.plural == place.plural && (place.namespace.is_empty() || place.namespace == namespace)
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
        let items: Vec<_> = page.into_iter().map(|(_, object)| object.clone()).collect();
        let kind = format!("{}List", place.kind);
        answer(
            StatusCode::OK,
            &json!({"apiVersion": place.api_version, "kind": kind, "metadata": metadata, "items": items}),
        )
    }

    fn change(&mut self, verb: &str, place: &Place, body: Value) -> Response<Body> {
        let key = (place.namespace.clone(), place.name.clone());
        let current = self
            .objects
            .get(&place.plural)
            .and_then(|all| all.get(&key))
            .cloned();
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
            ("patch", Some(mut current)) => {
                let fields: &[&str] = if place.subresource == "status" {
                    &["status"]
                } else {
                    &["spec", "data", "metadata"]
                };
                for field in fields {
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

/// Lays the fields of `new` over those of `old`; lists are replaced, null removes.
fn merge(old: &mut Value, new: &Value) {
    match new {
        Value::Object(fields) => {
            if !old.is_object() {
                *old = json!({});
            }
            for (field, value) in fields {
                match (value, old.as_object_mut()) {
                    (Value::Null, Some(old)) => {
                        old.remove(field);
                    }
                    _ => merge(&mut old[field], value),
                }
            }
        }
        other => *old = other.clone(),
    }
}

impl Happened {
    fn line(&self) -> String {
        format!("{}\n", json!({"type": self.kind, "object": self.object}))
    }
}

fn bookmark(place: &Place, version: u64) -> String {
    let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    let object = json!({"apiVersion": place.api_version, "kind": place.kind, "metadata": metadata});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}

impl Place {
    /// `/api/v1/...` and `/apis/GROUP/VERSION/...`.
    fn parse(path: &str) -> Option<Self> {
        let mut steps = path.split('/').filter(|step| !step.is_empty());
        let (group, version) = match steps.next()? {
            "api" => ("", steps.next()?),
            "apis" => (steps.next()?, steps.next()?),
            _ => return None,
        };
        let mut rest: Vec<&str> = steps.collect();
        let mut namespace = "";
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            namespace = rest[1];
            rest.drain(..2);
        }
        let known = RESOURCES
            .iter()
            .find(|known| known.0 == group && known.1 == version && Some(&known.2) == rest.first())?;
        Some(Self {
            plural: known.2.to_owned(),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: known.3.to_owned(),
            namespace: namespace.to_owned(),
            name: rest.get(1).unwrap_or(&"").to_string(),
            subresource: rest.get(2).unwrap_or(&"").to_string(),
        })
    }

    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let known = RESOURCES.iter().find(|known| {
            let version = if known.0.is_empty() {
                known.1.to_owned()
            } else {
                format!("{}/{}", known.0, known.1)
            };
            version == api_version && known.3 == kind
        });
        let known = known.unwrap_or_else(|| panic!("{kind} of {api_version} is not served here"));
        Self {
            plural: known.2.to_owned(),
            api_version,
            kind,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            subresource: String::new(),
        }
    }
}

fn verb(method: &Method, place: &Place, query: &str) -> &'static str {
    match *method {
        Method::GET if !place.name.is_empty() => "get",
        Method::GET if matches!(parameter(query, "watch").as_deref(), Some("true" | "1")) => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "patch",
    }
}

/// A parameter of a query; what is escaped in it is of no concern here.
fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| value.to_owned())
    })
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    answer(code, &failure(code.as_u16(), reason, message))
}

fn answer(code: StatusCode, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(BodyExt::boxed(body))
        .unwrap()
}

/// An answer that says it is longer than it is.
fn cut_off() -> Response<Body> {
    let half = Ok(Frame::data(Bytes::from_static(
        br#"{"kind":"MappingList","items":[{"#,
    )));
    let frames = [half, Err(std::io::Error::other("cut"))];
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    Response::builder()
        .header("content-type", "application/json")
        .header("content-length", "100000")
        .body(body)
        .unwrap()
}
