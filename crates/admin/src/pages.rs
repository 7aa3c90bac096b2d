//! Which path gets which answer.

use http::{Method, Request, StatusCode};

use nuncio_model::Snapshot;

use crate::Admin;
use crate::answer::{Answer, Layout};
use crate::certificates::Certificates;
use crate::problems::Problems;
use crate::query::Query;
use crate::routes::Routes;
use crate::upstreams::Upstreams;
use crate::{cluster, diagnostics, health, names, process};

/// What is asked for, once it is known to be served and to whom.
pub(crate) struct Page {
    pub(crate) ask: Ask,
    kind: Kind,
    path: String,
    query: String,
}

/// How much there is to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A line.
    Health,
    Metrics,
    /// It may be large.
    Dump,
}

/// Something that is served.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Alive,
    Ready,
    Metrics,
    Diagnostics,
    Problems,
    Routes,
    Upstreams,
    Certificates,
}

/// Paths as they are announced; a slash at the end may be left out or added.
const PAGES: [(&str, Kind); 8] = [
    ("/ambassador/v0/check_alive", Kind::Alive),
    ("/ambassador/v0/check_ready", Kind::Ready),
    ("/ambassador/v0/diag/", Kind::Diagnostics),
    ("/api/v1/problems", Kind::Problems),
    ("/api/v1/routes", Kind::Routes),
    ("/api/v1/upstreams", Kind::Upstreams),
    ("/api/v1/certificates", Kind::Certificates),
    ("/metrics", Kind::Metrics),
];

/// All paths that are served.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(path, _)| *path)
}

/// The page that a request asks for, or why it gets none.
pub(crate) fn page<B>(admin: &Admin, request: &Request<B>) -> Result<Page, Answer> {
    let uri = request.uri();
    let path = uri.path();
    names::check(&admin.names, request.version(), uri, request.headers())
        .map_err(|foreign| refusal(path, foreign.status, foreign.message))?;
    let asked = path.strip_suffix('/').unwrap_or(path);
    let found = PAGES
        .iter()
        .find(|(path, _)| path.strip_suffix('/').unwrap_or(path) == asked);
    let nothing = "nothing is here; /ambassador/v0/diag/ lists what is";
    let (_, kind) = found.ok_or_else(|| refusal(path, StatusCode::NOT_FOUND, nothing))?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let only = "this can only be read; use GET or HEAD";
        return Err(refusal(path, StatusCode::METHOD_NOT_ALLOWED, only));
    }
    Ok(Page {
        ask: match kind {
            Kind::Alive | Kind::Ready => Ask::Health,
            Kind::Metrics => Ask::Metrics,
            _ => Ask::Dump,
        },
        kind: *kind,
        path: path.to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
    })
}

impl Page {
    /// For `HEAD` the body is dropped when it is sent.
    pub(crate) fn answer(&self, admin: &Admin) -> Answer {
        let query = Query(&self.query);
        match self.kind {
            Kind::Alive => health::alive(admin),
            Kind::Ready => health::ready(admin),
            Kind::Metrics => metrics(admin),
            Kind::Diagnostics => diagnostics::answer(admin, query),
            Kind::Problems | Kind::Routes | Kind::Upstreams | Kind::Certificates => {
                api(admin, self.kind, query)
            }
        }
    }

    /// As many answers as may be are still being taken.
    pub(crate) fn busy(&self) -> Answer {
        refusal(
            &self.path,
            StatusCode::SERVICE_UNAVAILABLE,
            "others are still reading answers like this one; try again",
        )
    }
}

/// In the form in which the path would have answered.
fn refusal(path: &str, status: StatusCode, message: &str) -> Answer {
    if path.starts_with("/api/") {
        Answer::json_error(status, message)
    } else {
        Answer::text(status, message)
    }
}

/// A scrape before the first configuration succeeds and holds nothing: the process is well.
fn metrics(admin: &Admin) -> Answer {
    let mut text = match admin.snapshot() {
        Some(snapshot) => admin.live.metrics(&snapshot),
        None => "# no configuration yet\n".to_owned(),
    };
    text.push_str(&process::metrics(admin));
    if let Some(cluster) = &admin.cluster {
        text.push_str(&cluster::metrics(&**cluster));
    }
    Answer::metrics(text)
}

fn api(admin: &Admin, page: Kind, query: Query<'_>) -> Answer {
    let Some(snapshot) = admin.snapshot() else {
        return not_configured();
    };
    let snapshot: &Snapshot = &snapshot;
    let layout = layout(query);
    match page {
        Kind::Problems => Answer::json(StatusCode::OK, &Problems::of(admin, snapshot), layout),
        Kind::Routes => Answer::json(StatusCode::OK, &Routes::of(snapshot), layout),
        Kind::Upstreams => Answer::json(StatusCode::OK, &Upstreams::of(admin, snapshot), layout),
        _ => Answer::json(StatusCode::OK, &Certificates::of(admin, snapshot), layout),
    }
}

pub(crate) fn layout(query: Query<'_>) -> Layout {
    if query.is_on("pretty") {
        Layout::Pretty
    } else {
        Layout::Compact
    }
}

/// An empty list would say that there are none.
pub(crate) fn not_configured() -> Answer {
    Answer::json_error(
        StatusCode::SERVICE_UNAVAILABLE,
        "no configuration has been read yet; try again",
    )
}
