//! Metrics about the process itself.

use crate::Admin;

/// In Prometheus' text format.
pub(crate) fn metrics(admin: &Admin) -> String {
    let lost = (admin.lost_log_lines)();
    format!(
        "# HELP nuncio_log_lost_total Lines of the program's own log that were not written, since the reader of \
         standard error stalled or was gone, or its disk was full.\n\
         # TYPE nuncio_log_lost_total counter\nnuncio_log_lost_total {lost}\n"
    )
}
