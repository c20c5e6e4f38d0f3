//! A text that pages write together. The pages have y-websocket as it is published, and the server has yrs; both have their
//! sockets from session-resume. So a cut, and a kill of the server, is nothing that either library hears of: no page syncs
//! anew, no change is lost, and none is told twice.
//!
//! The parts in reading order: [`app`] (routes and the layer), [`live`] (the handler), [`text`] (the document), and
//! its file.

pub mod app;
pub mod live;
mod log;
pub mod text;
