use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::AsHeaderName, response::Parts};
use serde_json::Value;

/// An HTTP answer, read to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn new(parts: Parts, body: Bytes) -> Self {
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Returns the body as text.
    ///
    /// # Panics
    ///
    /// Panics if it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Reads the body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is no JSON: {error}: {self:?}"))
    }

    /// Returns the values of a header that are text.
    pub fn header(&self, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}
