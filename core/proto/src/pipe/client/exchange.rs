//! What the caller sends, and what it has heard.

use std::time::Duration;

use bytes::Bytes;

use super::super::{Form, Method, Nonce, Token, header};
use crate::{
    Message, Position,
    wire::{Close, EVENTS, FRAMES, integer},
};

/// One of the two requests that a pipe has under way at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// The open, and the gets after it: frames come down.
    Get,
    /// The posts: frames go up.
    Post,
}

/// A request to be sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Outgoing {
    /// What it asks.
    pub kind: OutgoingKind,
    /// How frames are to come down: the header `Accept`.
    pub form: Form,
    /// The body; empty for a get.
    pub body: Bytes,
    /// Nobody needs the answer: the pipe is over, and this is its last word.
    pub last: bool,
}

/// What a request asks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OutgoingKind {
    /// Opens the pipe, or asks for the answer to that once more.
    Open {
        /// The pipe's name until the answer.
        nonce: Nonce,
        /// What is offered, as `Sec-WebSocket-Protocol` has it.
        offer: String,
        /// How long it may wait at most.
        wait: Option<Duration>,
    },
    /// Asks for frames.
    Get {
        /// Which pipe.
        token: Token,
        /// The first frame wanted.
        down: u64,
        /// How long it may wait at most.
        wait: Option<Duration>,
        /// The client's position, if the get tells it.
        ack: Option<Position>,
    },
    /// Brings frames.
    Post {
        /// Which pipe.
        token: Token,
        /// The number of the first frame.
        up: u64,
        /// The first down frame that the client does not have.
        down: u64,
    },
}

/// The head of an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// [`header::PIPE`]: an answer without it is not the server's.
    pub pipe: Option<Token>,
    /// [`header::DOWN`].
    pub down: Option<u64>,
    /// [`header::UP`].
    pub up: Option<u64>,
    /// [`header::CLOSE`].
    pub close: Option<Close>,
    /// `Retry-After`, in whole seconds.
    pub retry_after: Option<Duration>,
}

/// What the pipe brings for the client machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Arrival {
    /// A text or binary frame: [`handle_frame`](crate::client::Client::handle_frame).
    Message(Message),
    /// The server lives: [`handle_alive`](crate::client::Client::handle_alive).
    Alive,
    /// The transport is gone, as the server said or without a word:
    /// [`handle_closed`](crate::client::Client::handle_closed).
    Closed(Option<Close>),
    /// Another has this pipe, so the client is a copy: [`handle_copied`](crate::client::Client::handle_copied).
    Copied,
    /// The server has sent a message over the limit: [`handle_too_big`](crate::client::Client::handle_too_big).
    TooBig,
    /// The server has sent what is no frame: [`handle_broken`](crate::client::Client::handle_broken).
    Broken,
    /// A status that a repetition does not change:
    /// [`handle_connect_failed`](crate::client::Client::handle_connect_failed).
    Refused {
        /// The status.
        status: u16,
    },
}

impl Outgoing {
    /// Returns which of the two it is.
    pub fn lane(&self) -> Lane {
        match self.kind {
            OutgoingKind::Open { .. } | OutgoingKind::Get { .. } => Lane::Get,
            OutgoingKind::Post { .. } => Lane::Post,
        }
    }

    /// Returns the method.
    pub fn method(&self) -> Method {
        match self.kind {
            OutgoingKind::Get { .. } => Method::Get,
            OutgoingKind::Open { .. } | OutgoingKind::Post { .. } => Method::Post,
        }
    }

    /// Returns the headers of the request, names in lower case.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let millis = |time: &Duration| time.as_millis().to_string();
        let mut headers = Vec::new();
        let accept = match self.form {
            Form::Stream => EVENTS,
            Form::Poll => FRAMES,
        };
        match &self.kind {
            OutgoingKind::Open { nonce, offer, wait } => {
                headers.push(("accept", accept.to_owned()));
                headers.push(("content-type", FRAMES.to_owned()));
                headers.push((header::OFFER, offer.clone()));
                headers.push((header::PIPE, nonce.to_string()));
                headers.extend(wait.as_ref().map(|wait| (header::WAIT, millis(wait))));
            }
            OutgoingKind::Get { token, down, wait, ack } => {
                headers.push(("accept", accept.to_owned()));
                headers.push((header::PIPE, token.to_string()));
                headers.push((header::DOWN, down.to_string()));
                headers.extend(wait.as_ref().map(|wait| (header::WAIT, millis(wait))));
                headers.extend(ack.map(|ack| (header::ACK, ack.to_string())));
            }
            OutgoingKind::Post { token, up, down } => {
                headers.push(("content-type", FRAMES.to_owned()));
                headers.push((header::PIPE, token.to_string()));
                headers.push((header::UP, up.to_string()));
                headers.push((header::DOWN, down.to_string()));
            }
        }
        headers
    }
}

impl Answer {
    /// Reads the head of an answer; `headers` returns the value of a header by its name in lower case.
    pub fn read<'h>(status: u16, headers: impl Fn(&str) -> Option<&'h str>) -> Self {
        let number = |name| headers(name).and_then(integer);
        Self {
            status,
            pipe: headers(header::PIPE).and_then(Token::parse),
            down: number(header::DOWN),
            up: number(header::UP),
            close: headers(header::CLOSE).and_then(Close::from_line),
            retry_after: number("retry-after").map(Duration::from_secs),
        }
    }
}
