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
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, "nuncio is not ready")
    }
}

pub(crate) fn is_ready(admin: &Admin) -> bool {
    admin.snapshot.borrow().is_some() && admin.live.ready() && !*admin.leaving.borrow()
}
