//! `--streams-shim`: `/v1/stream/{name}`, where a client of Durable Streams makes, feeds and ends sessions, and reads them.
//!
//! Only the reads are those of the library. That others write a session is for tests of readers alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use serde_json::value::RawValue;
use session_resume::{
    Message, Session,
    adapter::{self, Body, Door},
};

use crate::tally::Tally;

const CLOSED: &str = "stream-closed";

/// The streams by their names.
#[derive(Default)]
pub(crate) struct Shim(Mutex<HashMap<String, Stream>>);

#[derive(Clone)]
struct Stream {
    session: Session<Tally>,
    door: Door,
    content_type: String,
    is_json: bool,
}

impl Shim {
    fn get(&self, name: &str) -> Option<Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Answers a request for the stream of this name.
    pub(crate) async fn answer(&self, parts: &Parts, name: &str, body: Bytes) -> Response<Body> {
        let mut response = match (&parts.method, self.get(name)) {
            (&Method::OPTIONS, _) => adapter::read_stream::<Tally>(parts, "", &Door::json()).await,
            (&Method::PUT, found) => self.put(parts, name, &body, found).await,
            (_, None) => status(StatusCode::NOT_FOUND),
            (&Method::GET | &Method::HEAD, Some(stream)) => {
                stream.door.read(&stream.session, parts).await
            }
            (&Method::POST, Some(stream)) => stream.post(parts, &body).await,
            (&Method::DELETE, Some(stream)) => {
                stream.session.close("its stream was deleted");
                self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                status(StatusCode::NO_CONTENT)
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED),
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn put(
        &self,
        parts: &Parts,
        name: &str,
        body: &[u8],
        found: Option<Stream>,
    ) -> Response<Body> {
        let content_type = content_type(parts).unwrap_or("application/octet-stream");
        if let Some(stream) = found {
            let is_same = stream.content_type.eq_ignore_ascii_case(content_type)
                && stream.has_ended() == parts.headers.contains_key(CLOSED);
            return if is_same {
                stream.told(StatusCode::OK).await
            } else {
                stream.told(StatusCode::CONFLICT).await
            };
        }
        // A client without cookies has a session for each stream that it makes.
        let Ok(session) = adapter::open::<Tally>(parts).await else {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        };
        let Ok(value) = HeaderValue::from_str(content_type) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let is_json = content_type.to_ascii_lowercase().starts_with("application/json");
        let door = if is_json {
            Door::json()
        } else if content_type.to_ascii_lowercase().starts_with("text/") {
            Door::text()
        } else {
            Door::bytes()
        };
        let stream = Stream {
            session,
            door: door.with_content_type(value),
            content_type: content_type.to_owned(),
            is_json,
        };
        if !body.is_empty() && stream.append(body).is_err() {
            return status(StatusCode::BAD_REQUEST);
        }
        if parts.headers.contains_key(CLOSED) {
            stream.session.close("its stream was closed");
        }
        let mut response = stream.told(StatusCode::CREATED).await;
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let location = format!("http://{}{}", host.unwrap_or("localhost"), parts.uri.path());
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), stream);
        response
    }
}

impl Stream {
    async fn post(&self, parts: &Parts, body: &[u8]) -> Response<Body> {
        let closes = parts.headers.get(CLOSED).is_some_and(|value| value == "true");
        if self.has_ended() {
            let is_done = closes && body.is_empty();
            let status = if is_done { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT };
            return self.told(status).await;
        }
        if body.is_empty() {
            if !closes {
                return status(StatusCode::BAD_REQUEST);
            }
        } else {
            match content_type(parts) {
                None => return status(StatusCode::BAD_REQUEST),
                Some(it) if !it.eq_ignore_ascii_case(&self.content_type) => {
                    return self.told(StatusCode::CONFLICT).await;
                }
                Some(_) => {}
            }
            match self.append(body) {
                Ok(0) | Err(StatusCode::BAD_REQUEST) => return status(StatusCode::BAD_REQUEST),
                Ok(_) => {}
                Err(other) => return status(other),
            }
        }
        if closes {
            self.session.close("its stream was closed");
        }
        self.told(StatusCode::NO_CONTENT).await
    }

    /// Sends a body; returns how many messages that are.
    fn append(&self, body: &[u8]) -> Result<usize, StatusCode> {
        let text = || std::str::from_utf8(body).map_err(|_| StatusCode::BAD_REQUEST);
        let messages: Vec<Message> = if self.is_json {
            let text = text()?;
            let values: Vec<Box<RawValue>> = if text.trim_start().starts_with('[') {
                serde_json::from_str(text).map_err(|_| StatusCode::BAD_REQUEST)?
            } else {
                vec![serde_json::from_str(text).map_err(|_| StatusCode::BAD_REQUEST)?]
            };
            values.iter().map(|value| value.get().into()).collect()
        } else if let Ok(text) = text() {
            vec![text.into()]
        } else {
            vec![Message::Binary(Bytes::copy_from_slice(body))]
        };
        let count = messages.len();
        for message in messages {
            self.session.try_send(message).map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        }
        Ok(count)
    }

    fn has_ended(&self) -> bool {
        self.session.outcome().is_some()
    }

    /// An answer that says where the stream ends.
    async fn told(&self, with: StatusCode) -> Response<Body> {
        let (parts, ()) = Request::head("/").body(()).expect("a request").into_parts();
        let mut response = self.door.read(&self.session, &parts).await;
        *response.status_mut() = with;
        response
    }
}

fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}
