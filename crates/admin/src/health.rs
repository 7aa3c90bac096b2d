//! What a kubelet or a load balancer asks, in the reference's words with our name.

use http::StatusCode;

use crate::Admin;
use crate::answer::Answer;

/// Whether restarting would help: it would when a worker is gone.
pub(crate) fn alive(admin: &Admin) -> Answer {
    if admin.live.alive() {
        Answer::text(StatusCode::OK, "nuncio is alive and well")
    } else {
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, "nuncio is not alive")
    }
}

/// Whether traffic may be sent: once the first complete configuration serves, until the process is to end.
pub(crate) fn ready(admin: &Admin) -> Answer {
    if is_ready(admin) {
        Answer::text(StatusCode::OK, "nuncio is ready and waiting")
    } else {
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, &why_not(admin))
    }
}

fn why_not(admin: &Admin) -> String {
    let lacks = admin.cluster.as_ref().map(|cluster| cluster.unlisted());
    let lacks = lacks.filter(|lacks| admin.snapshot.borrow().is_none() && !lacks.is_empty());
    lacks.map_or_else(
        || "nuncio is not ready".to_owned(),
        |lacks| {
            let lacks = lacks.join(", ");
            format!("nuncio is not ready: it waits for a complete list of {lacks}")
        },
    )
}

pub(crate) fn is_ready(admin: &Admin) -> bool {
    admin.snapshot.borrow().is_some() && admin.live.ready() && !*admin.leaving.borrow()
}
