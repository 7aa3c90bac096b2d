//! Which path gets which answer.

use http::{Method, StatusCode, Uri};

use nuncio_model::Snapshot;

use crate::Admin;
use crate::answer::{Answer, Layout};
use crate::certificates::Certificates;
use crate::problems::Problems;
use crate::query::Query;
use crate::routes::Routes;
use crate::upstreams::Upstreams;
use crate::{cluster, diagnostics, health, process};

/// Something that is served.
#[derive(Clone, Copy, Debug)]
enum Page {
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
const PAGES: [(&str, Page); 8] = [
    ("/ambassador/v0/check_alive", Page::Alive),
    ("/ambassador/v0/check_ready", Page::Ready),
    ("/ambassador/v0/diag/", Page::Diagnostics),
    ("/api/v1/problems", Page::Problems),
    ("/api/v1/routes", Page::Routes),
    ("/api/v1/upstreams", Page::Upstreams),
    ("/api/v1/certificates", Page::Certificates),
    ("/metrics", Page::Metrics),
];

/// All paths that are served.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(path, _)| *path)
}

/// The answer to a request. For `HEAD` the body is dropped when it is sent.
pub(crate) fn answer(admin: &Admin, method: &Method, uri: &Uri) -> Answer {
    let path = uri.path();
    let asked = path.strip_suffix('/').unwrap_or(path);
    let page = PAGES
        .iter()
        .find(|(path, _)| path.strip_suffix('/').unwrap_or(path) == asked);
    let Some((_, page)) = page else {
        return refusal(
            path,
            StatusCode::NOT_FOUND,
            "nothing is here; /ambassador/v0/diag/ lists what is",
        );
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return refusal(
            path,
            StatusCode::METHOD_NOT_ALLOWED,
            "this can only be read; use GET or HEAD",
        );
    }
    let query = Query(uri.query().unwrap_or_default());
    match page {
        Page::Alive => health::alive(admin),
        Page::Ready => health::ready(admin),
        Page::Metrics => metrics(admin),
        Page::Diagnostics => diagnostics::answer(admin, query),
        Page::Problems | Page::Routes | Page::Upstreams | Page::Certificates => api(admin, *page, query),
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

fn api(admin: &Admin, page: Page, query: Query<'_>) -> Answer {
    let Some(snapshot) = admin.snapshot() else {
        return not_configured();
    };
    let snapshot: &Snapshot = &snapshot;
    let layout = layout(query);
    match page {
        Page::Problems => Answer::json(StatusCode::OK, &Problems::of(admin, snapshot), layout),
        Page::Routes => Answer::json(StatusCode::OK, &Routes::of(snapshot), layout),
        Page::Upstreams => Answer::json(StatusCode::OK, &Upstreams::of(admin, snapshot), layout),
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
