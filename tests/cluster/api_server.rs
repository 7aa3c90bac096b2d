//! A Kubernetes API server for tests: lists with pages, watches with bookmarks, versions, server-side apply of
//! what is sent. The faults that real ones have are those of a [`super::gate::Gate`] before it.
//!
//! It keeps to what a real one answers; where it is simpler, a real one would be stricter: nothing is
//! validated, and a later page of a list shows the present, not the moment of its first page.

mod apply;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::apply::merge;
use super::answers::{Body, answer, answer_text, status};
use super::place::{Place, parameter, verb};
use super::serving::Serving;

/// The server; it ends when dropped.
pub struct ApiServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _serving: Serving,
}

struct Shared {
    state: Mutex<State>,
    /// Rises with each event that watches may have to tell.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, BTreeMap<(String, String), Stored>>,
    history: Vec<Happened>,
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
        });
        let serving = Arc::clone(&shared);
        Self {
            address,
            shared,
            _serving: Serving::start(listener, move |request| Arc::clone(&serving).answer(request)),
        }
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

    /// An object as it is.
    fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.shared.lock();
        let key = (namespace.to_owned(), name.to_owned());
        Some(state.objects.get(plural)?.get(&key)?.object.clone())
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
        if parts.uri.path() == "/readyz" {
            return answer_text(StatusCode::OK, "ok".to_owned());
        }
        let Some(place) = Place::parse(parts.uri.path()) else {
            return status(
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource",
            );
        };
        let verb = verb(&parts.method, &place, &query);
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
        let bookmarks = parameter(query, "allowWatchBookmarks").as_deref() == Some("true");
        tokio::spawn(async move { shared.tell_watch(&place, from, bookmarks, &sender).await });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(Box::pin(stream)));
        Response::builder()
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    }

    async fn tell_watch(
        &self,
        place: &Place,
        mut from: u64,
        bookmarks: bool,
        sender: &mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
    ) {
        let mut changed = self.changed.subscribe();
        loop {
            let lines = {
                let state = self.lock();
                let mut lines: Vec<_> = state.since(place, from).iter().map(Happened::line).collect();
                if bookmarks && lines.is_empty() && state.version > from {
                    lines.push(bookmark(place, state.version));
                }
                from = state.version;
                lines
            };
            for line in lines {
                if sender.send(Ok(Frame::data(line.into()))).await.is_err() {
                    return;
                }
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

    fn list(&self, place: &Place, query: &str) -> Response<Body> {
        let limit: usize = parameter(query, "limit")
            .and_then(|text| text.parse().ok())
            .unwrap_or(usize::MAX);
        let mut after = None;
        if let Some(token) = parameter(query, "continue").filter(|token| !token.is_empty()) {
            let (namespace, name) = token.split_once('.').unwrap_or_default();
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
            let token = format!("{namespace}.{name}");
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
