//! Answers of an API server.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

pub fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    answer(code, &failure(code.as_u16(), reason, message))
}

pub fn answer(code: StatusCode, value: &Value) -> Response<Body> {
    answer_text(code, value.to_string())
}

pub fn answer_text(code: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(BodyExt::boxed_unsync(body))
        .unwrap()
}

/// An answer that says it is longer than it is.
pub fn cut_off() -> Response<Body> {
    let half = Ok(Frame::data(Bytes::from_static(
        br#"{"kind":"MappingList","items":[{"#,
    )));
    let frames = [half, Err(std::io::Error::other("cut"))];
    let body = BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)));
    Response::builder()
        .header("content-type", "application/json")
        .header("content-length", "100000")
        .body(body)
        .unwrap()
}
