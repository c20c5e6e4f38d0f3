//! A scripted agent that thinks, streams its words, asks for approval and blocks, works for a while, and
//! finishes. It runs on a plain thread, once per session: sockets drop, pages are loaded anew, the server is
//! killed and started again, and it goes on with the next word.
//!
//! The parts in reading order: [`app`] (routes and the layer), [`live`] (the handler), [`state`] (what a
//! session remembers), [`script`] (what it finds and asks), [`view`] (what clients are told).

pub mod app;
pub mod live;
pub mod script;
pub mod state;
pub mod view;
