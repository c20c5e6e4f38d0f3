//! What a node asks of another one by itself, for no client.

use std::fmt;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use session_resume_proto::session::IdentityTag;

use crate::{Identity, Message, SessionResume};

/// A node that does not know a call answers 400.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Call {
    /// `SessionResume::broadcast`.
    Broadcast(Body),
    /// `SessionResume::close_identity`.
    CloseIdentity(Whose, String),
    /// `SessionResume::end_identity`.
    EndIdentity(Whose, String),
}

/// An identity, as it goes from node to node.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whose([u8; 16]);

impl From<Identity> for Whose {
    fn from(identity: Identity) -> Self {
        Self(identity.tag().bytes())
    }
}

impl From<Whose> for Identity {
    fn from(Whose(bytes): Whose) -> Self {
        Self::of_tag(IdentityTag::new(bytes))
    }
}

/// A message, as it goes from node to node.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Body {
    Text(String),
    Binary(Vec<u8>),
}

impl From<Message> for Body {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}

impl From<Body> for Message {
    fn from(body: Body) -> Self {
        match body {
            Body::Text(text) => Self::Text(text.into()),
            Body::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}

impl Call {
    pub(super) fn request() -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        // What makes it a call is the header of the hop, which is sealed: a client chooses paths.
        *request.uri_mut() = Uri::from_static("/");
        request
    }

    pub(super) fn body(&self) -> Bytes {
        // It writes to memory.
        postcard::to_stdvec(self).unwrap_or_default().into()
    }

    /// Does it at this node; returns to how many.
    pub(super) fn perform<T: Send + 'static>(self, resume: &SessionResume<T>) -> usize {
        match self {
            Self::Broadcast(body) => resume.broadcast(body),
            Self::CloseIdentity(whose, reason) => resume.close_identity(whose.into(), reason),
            Self::EndIdentity(whose, reason) => resume.end_identity(whose.into(), reason),
        }
    }

    #[cfg(any(feature = "server", test))]
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        postcard::from_bytes(body).ok()
    }
}

// By hand: messages are nobody's to read.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broadcast(_) => "Broadcast(..)",
            Self::CloseIdentity(..) => "CloseIdentity(..)",
            Self::EndIdentity(..) => "EndIdentity(..)",
        })
    }
}

/// Reads the answer to a call: how many.
pub(super) fn read_count(status: StatusCode, body: &[u8]) -> Option<usize> {
    let text = str::from_utf8(body).ok().filter(|_| status == StatusCode::OK)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_over_as_they_were() {
        let identity = Identity::mint([7; 16]);
        for message in [Message::text("h\u{e9}llo"), Message::Binary(Bytes::from_static(b"\0\xff"))]
        {
            let call = Call::Broadcast(message.clone().into());
            let Some(Call::Broadcast(body)) = Call::parse(&call.body()) else { panic!("{call:?}") };
            assert_eq!(Message::from(body), message);
        }
        for call in [
            Call::CloseIdentity(identity.into(), "revoked".into()),
            Call::EndIdentity(identity.into(), String::new()),
        ] {
            assert!(Call::parse(&call.body()) == Some(call));
        }
        assert_eq!(Identity::from(Whose::from(identity)), identity);
        assert!(Call::parse(b"\x09").is_none(), "a call of a later version");
    }

    #[test]
    fn only_a_number_with_200_is_an_answer() {
        assert_eq!(read_count(StatusCode::OK, b"12"), Some(12));
        assert_eq!(read_count(StatusCode::BAD_REQUEST, b"12"), None);
        assert_eq!(read_count(StatusCode::OK, b"<html>"), None);
    }
}
