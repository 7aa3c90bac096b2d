//! An answer before it is put on the wire.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::body::AnswerBody;
use crate::places::Place;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format that Prometheus has read since its version 0.4.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Status, type and body.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    Compact,
    Pretty,
}

impl Answer {
    /// One or more lines; the line break at the end is added.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: format!("{text}\n").into(),
        }
    }

    pub(crate) fn metrics(text: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: METRICS,
            body: text.into(),
        }
    }

    pub(crate) fn json(status: StatusCode, value: &impl Serialize, layout: Layout) -> Self {
        let written = match layout {
            Layout::Compact => serde_json::to_vec(value),
            Layout::Pretty => serde_json::to_vec_pretty(value),
        };
        match written {
            Ok(mut body) => {
                body.push(b'\n');
                Self {
                    status,
                    content_type: JSON,
                    body: body.into(),
                }
            }
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// `{"error":"..."}`
    pub(crate) fn json_error(status: StatusCode, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": message }), Layout::Compact)
    }

    /// It could not be made.
    pub(crate) fn failed() -> Self {
        Self::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be made; the log says why",
        )
    }

    /// Answers tell of this moment, so nobody may keep them.
    pub(crate) fn into_response(
        self,
        place: Arc<Place>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Response<AnswerBody> {
        let refused = self.status == StatusCode::METHOD_NOT_ALLOWED;
        let later = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let mut response = Response::new(AnswerBody::new(self.body, place, permit));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if refused {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if later {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
