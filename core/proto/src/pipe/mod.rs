//! One transport over HTTP: frames down in answers, frames up in requests.
//!
//! A *pipe* lies below a transport. Its requests may be lost, late, doubled and reordered; above it is the same stream
//! and sink of frames that a WebSocket is. `PROTOCOL.md`, "Over HTTP", tells the rules in prose.
//!
//! [`Server`] is the server's end and [`Client`] the client's, one of each for each pipe. [`Request`] is what a request
//! of a client says in its headers. [`Choice`] says by which path a client comes: a WebSocket, a stream, or polls.
//!
//! The methods of the machines are of three kinds, as those of [`client`](crate::client): `handle_*` say what happened,
//! verbs are commands of the transport's user, `poll_*` say what the caller must do.

mod choice;
mod client;
mod request;
mod server;

pub use self::{
    choice::{Choice, Follow, Memory, Path},
    client::{Answer, Arrival, Client, ClientConfig, Lane, Outgoing, OutgoingKind, Patience},
    request::{Form, Method, Nonce, Rejection, Request, Tag, Token, header},
    server::{
        Breach, Get, GetStep, Gone, Incoming, Post, Posted, Refusal, RequestId, Server, Settings,
    },
};
