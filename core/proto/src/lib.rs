//! The rules of session-resume as pure state machines.
//!
//! This crate makes the decisions and carries none of them out: no I/O, no clock, no randomness, no
//! lock, no task. Time is a [`Moment`] that the caller passes in, random bytes are arguments, effects
//! are return values. So a simulator with a virtual clock drives the very code that runs in
//! production. Users want the crate `session-resume`; this one is for adapters in other languages and
//! runtimes, and for tests.
//!
//! Suggested reading order: the words ([`ids`](ClientId), [`Position`], [`Cursor`], [`Gap`]), then [`wire`] (what goes over the
//! connection), then [`session`] (the server's end), then [`client`] (the client's end), then [`pipe`] (a transport over HTTP),
//! then [`ownership`] (which of several nodes owns a session).

pub mod compact;
mod ids;
mod message;
mod position;
mod time;

pub mod client;
pub mod numbers;
pub mod ownership;
pub mod pipe;
pub mod session;
pub mod wire;

pub use self::{
    ids::{AttachmentNumber, ClientId, WireId},
    message::Message,
    position::{Cursor, Gap, GapReason, MAX_INTEGER, Position},
    time::Moment,
};
