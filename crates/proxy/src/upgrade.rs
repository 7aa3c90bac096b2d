//! Connections that change their protocol: from then on, bytes both ways.

use http::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use nuncio_model::{HeaderEdits, Settings};
use tokio::io::copy_bidirectional;

use crate::body::ResponseBody;
use crate::exchange::Exchange;
use crate::headers;
use crate::request::finish_head;

/// Sends the upstream's 101 on and connects the two sides once it is out. The exchange lasts as
/// long as they are connected.
pub(crate) fn relay(
    mut response: Response<Incoming>,
    client: OnUpgrade,
    edits: &HeaderEdits,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(http::header::UPGRADE).cloned();
    let (mut parts, _) = response.into_parts();
    headers::sanitise_response(&mut parts.headers);
    if let Some(protocol) = protocol {
        headers::set_upgrade(&mut parts.headers, protocol);
    }
    finish_head(&mut parts.headers, &exchange, settings);
    headers::edit(&mut parts.headers, edits);
    exchange.status = parts.status.as_u16();
    tokio::task::spawn_local(async move {
        if let Some((sent, received)) = connect(client, upstream).await {
            exchange.bytes_in = Some(std::rc::Rc::new(sent.into()));
            exchange.bytes_out = received;
        }
        exchange.complete();
    });
    Response::from_parts(parts, ResponseBody::none())
}

async fn connect(client: OnUpgrade, upstream: OnUpgrade) -> Option<(u64, u64)> {
    let upstream = upstream.await.ok()?;
    let client = client.await.ok()?;
    copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream))
        .await
        .ok()
}
