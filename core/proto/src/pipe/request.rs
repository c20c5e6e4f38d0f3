//! What a request says in its headers.

use std::{fmt, time::Duration};

use crate::{
    Position,
    ids::Inline,
    wire::{EVENTS, FRAMES, integer},
};

/// The names of the headers of pipes, in lower case.
pub mod header {
    /// What is offered, as a WebSocket offers it in `Sec-WebSocket-Protocol`.
    pub const OFFER: &str = "session-resume-offer";
    /// The pipe: on an open its nonce, else nonce and tag.
    pub const PIPE: &str = "session-resume-pipe";
    /// In a request the number of the down frame that the client expects next; in an answer the number of its first.
    pub const DOWN: &str = "session-resume-down";
    /// In a post the number of its first frame; in an answer the number that the server expects next.
    pub const UP: &str = "session-resume-up";
    /// How long a get may wait at most, in milliseconds.
    pub const WAIT: &str = "session-resume-wait";
    /// The client's position: the control frame `ack`, on a get.
    pub const ACK: &str = "session-resume-ack";
    /// How a pipe was closed that is not there any more: code and reason.
    pub const CLOSE: &str = "session-resume-close";
    /// Which transports there are, in the answer to an `OPTIONS`.
    pub const TRANSPORTS: &str = "session-resume-transports";
}

/// What a client calls a pipe before the server has named it: 22 of `[A-Za-z0-9_-]`, from 128 fresh random bits for
/// each attempt.
pub type Nonce = Inline<22, 22>;

/// What the server adds to a nonce: up to 40 of `[A-Za-z0-9_-]`, at least 64 random bits in them.
pub type Tag = Inline<1, 40>;

/// The name of a pipe: `<nonce>.<tag>`. It is a capability, as an open socket is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The client's part.
    pub nonce: Nonce,
    /// The server's part.
    pub tag: Tag,
}

/// How down frames travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// One answer that goes on: an event stream.
    Stream,
    /// An answer as soon as there is a frame.
    Poll,
}

/// The methods of a pipe's requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

/// A request, by its headers.
///
/// `Debug` does not show tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Opens a pipe, or asks an open one from 0 on. The offer is in [`header::OFFER`].
    Open {
        /// The pipe's name until the answer.
        nonce: Nonce,
        /// How the frames come down.
        form: Form,
        /// How long it may wait at most.
        wait: Option<Duration>,
    },
    /// Asks for down frames.
    Get {
        /// Which pipe.
        token: Token,
        /// The first frame wanted.
        down: u64,
        /// How the frames come down.
        form: Form,
        /// How long it may wait at most.
        wait: Option<Duration>,
        /// The client's position, as a control frame `ack` would say it.
        ack: Option<Position>,
    },
    /// Brings up frames.
    Post {
        /// Which pipe.
        token: Token,
        /// The number of the first frame in the body.
        up: u64,
        /// The first down frame that the client does not have.
        down: u64,
    },
}

/// Why a request is none of a pipe's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// 400: the headers are not those of an open, a get or a post.
    Malformed,
    /// 415: an open or a post without the content type [`FRAMES`]. A page on another origin could send it without being
    /// asked first.
    ContentType,
}

impl Token {
    /// Reads `<nonce>.<tag>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (nonce, tag) = text.split_once('.')?;
        Some(Self { nonce: Nonce::parse(nonce)?, tag: Tag::parse(tag)? })
    }

    /// Returns whether two tokens are equal, in a time that does not depend on where they differ.
    pub fn is(&self, other: &Self) -> bool {
        let (a, b) = (self.tag.as_str().as_bytes(), other.tag.as_str().as_bytes());
        let (c, d) = (self.nonce.as_str().as_bytes(), other.nonce.as_str().as_bytes());
        let pairs = a.iter().zip(b).chain(c.iter().zip(d));
        let differs = pairs.fold(0, |sum, (x, y)| sum | (x ^ y));
        a.len() == b.len() && std::hint::black_box(differs) == 0
    }
}

impl Request {
    /// Returns whether the request is marked as one of a pipe, well formed or not. `headers` returns the value of a header
    /// by its name in lower case.
    pub fn is_marked<'h>(headers: impl Fn(&str) -> Option<&'h str>) -> bool {
        [header::OFFER, header::PIPE].iter().any(|name| headers(name).is_some())
    }

    /// Reads a request that [is marked](Self::is_marked). `headers` returns the value of a header by its name in lower case;
    /// of a header that comes twice, the caller refuses the request itself.
    ///
    /// # Errors
    ///
    /// Returns [`Rejection`] if it is not exactly one of the three.
    pub fn read<'h>(
        method: Method,
        headers: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Self, Rejection> {
        let pipe = headers(header::PIPE).ok_or(Rejection::Malformed)?;
        let offers = headers(header::OFFER).is_some();
        let number =
            |name| headers(name).map(|text| integer(text).ok_or(Rejection::Malformed)).transpose();
        let down = number(header::DOWN)?;
        let up = number(header::UP)?;
        let wait = number(header::WAIT)?.map(Duration::from_millis);
        let ack = number(header::ACK)?.map(Position::new);
        let form = match headers("accept") {
            Some(accept) if names(accept, EVENTS) => Form::Stream,
            Some(_) | None => Form::Poll,
        };
        let token = Token::parse(pipe).ok_or(Rejection::Malformed);
        match (method, offers, down, up) {
            (Method::Post, true, None | Some(0), None) => {
                check_content_type(headers("content-type"))?;
                let nonce = Nonce::parse(pipe).ok_or(Rejection::Malformed)?;
                Ok(Self::Open { nonce, form, wait })
            }
            (Method::Get, false, Some(down), None) => {
                Ok(Self::Get { token: token?, down, form, wait, ack })
            }
            (Method::Post, false, Some(down), Some(up)) => {
                check_content_type(headers("content-type"))?;
                Ok(Self::Post { token: token?, up, down })
            }
            (Method::Get | Method::Post, _, _, _) => Err(Rejection::Malformed),
        }
    }
}

fn check_content_type(value: Option<&str>) -> Result<(), Rejection> {
    let named = value.is_some_and(|value| names(value, FRAMES));
    if named { Ok(()) } else { Err(Rejection::ContentType) }
}

/// Returns whether a list of media types has this one.
fn names(list: &str, wanted: &str) -> bool {
    list.split(',').any(|entry| {
        let media = entry.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case(wanted)
    })
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.nonce, self.tag)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str(
                "expected a WebSocket upgrade, or a POST with Session-Resume-Offer and Session-Resume-Pipe (open), or \
                 a GET with Session-Resume-Pipe and Session-Resume-Down (get), or a POST with Session-Resume-Pipe, \
                 Session-Resume-Up and Session-Resume-Down (post)",
            ),
            Self::ContentType => write!(f, "expected content type {FRAMES}"),
        }
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAA_";

    fn read(method: Method, headers: &[(&str, &str)]) -> Result<Request, Rejection> {
        let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        Request::read(method, find)
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let token = |text: &str| Token::parse(text).unwrap();
        let a = token(&format!("{NONCE}.node-1"));
        assert!(a.is(&token(&format!("{NONCE}.node-1"))));
        for other in ["node-2", "node-", "node-11"] {
            assert!(!a.is(&token(&format!("{NONCE}.{other}"))), "{other}");
        }
        assert!(!a.is(&token("AAAAAAAAAAAAAAAAAAAAAA.node-1")));
        assert_eq!(format!("{a:?}"), "Token(..)");
        for text in [
            NONCE,
            "x.tag",
            &format!("{NONCE}."),
            &format!("{NONCE}.a.b"),
            &format!("{NONCE}.{}", "a".repeat(41)),
        ] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_is_exactly_one_of_the_three() {
        let token = format!("{NONCE}.t");
        let (pipe, nonce) = (("session-resume-pipe", &*token), ("session-resume-pipe", NONCE));
        let offer = ("session-resume-offer", "session-resume-v1, at.x");
        let (down, up) = (("session-resume-down", "7"), ("session-resume-up", "3"));
        let frames = ("content-type", "application/vnd.session-resume");
        let events = ("accept", "text/event-stream;q=0.9, */*");
        let (get, post) = (Method::Get, Method::Post);
        let parsed = Token::parse(&token).unwrap();
        let open = |form| Request::Open { nonce: parsed.nonce, form, wait: None };
        assert_eq!(read(post, &[offer, nonce, frames]), Ok(open(Form::Poll)));
        let zero = ("session-resume-down", "0");
        assert_eq!(read(post, &[offer, nonce, frames, events, zero]), Ok(open(Form::Stream)));
        let wait = ("session-resume-wait", "250");
        let ack = ("session-resume-ack", "9");
        let expected = Request::Get {
            token: parsed,
            down: 7,
            form: Form::Poll,
            wait: Some(Duration::from_millis(250)),
            ack: Some(Position::new(9)),
        };
        assert_eq!(read(get, &[pipe, down, wait, ack]), Ok(expected));
        let expected = Request::Post { token: parsed, up: 3, down: 7 };
        assert_eq!(
            read(post, &[pipe, up, down, ("content-type", "Application/vnd.session-resume; a=b")]),
            Ok(expected)
        );
        for headers in [
            &[offer, nonce, down, frames][..],
            &[offer, nonce, up, frames],
            &[offer, pipe, frames],
            &[offer, frames],
            &[nonce, up, down, frames],
            &[pipe, up, frames],
            &[pipe, down, frames],
            &[pipe, ("session-resume-up", "03"), down, frames],
            &[pipe, ("session-resume-up", "-1"), down, frames],
            &[pipe, ("session-resume-up", "9007199254740992"), down, frames],
        ] {
            assert_eq!(read(post, headers), Err(Rejection::Malformed), "{headers:?}");
        }
        for headers in
            [&[pipe][..], &[down], &[nonce, down], &[offer, pipe, down], &[pipe, down, up]]
        {
            assert_eq!(read(get, headers), Err(Rejection::Malformed), "{headers:?}");
        }
        for headers in [
            &[offer, nonce][..],
            &[pipe, up, down],
            &[pipe, up, down, ("content-type", "text/plain")],
        ] {
            assert_eq!(read(post, headers), Err(Rejection::ContentType), "{headers:?}");
        }
    }
}
