//! session-resume for axum.
//!
//! Put [`SessionResume`](session_resume::SessionResume) around the router, extract [`Session`] in HTTP handlers
//! and [`ResumeUpgrade`] in the WebSocket's. `Option<Session<T>>` looks for a session without starting one, and without
//! counting as activity; [`Identity`] is who the browser is, and starts no session. These are the types of
//! `session-resume`, which are extractors with its feature `axum`.
//!
//! ```
//! use axum::{Router, response::Response, routing::{any, get}};
//! use serde::{Deserialize, Serialize};
//! use session_resume::SessionResume;
//! use session_resume_axum::{ResumeUpgrade, Session};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter { clicks: u64 }
//!
//! async fn page(session: Session<Counter>) -> String {
//!     format!("{} clicks so far", session.read(|counter| counter.clicks))
//! }
//!
//! async fn live(upgrade: ResumeUpgrade<Counter>) -> Response {
//!     upgrade.on_session(|mut session| async move {
//!         while let Some(_click) = session.recv().await {
//!             let clicks = session.update(|counter| { counter.clicks += 1; counter.clicks });
//!             session.send(format!("{clicks}")).await?;
//!         }
//!         Ok(())
//!     })
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(page))
//!     .route("/live", any(live))
//!     .merge(session_resume_axum::outcomes::<Counter, _>())
//!     .layer(SessionResume::new().with_state::<Counter>());
//! # drop(app);
//! ```

mod connection;
#[cfg(feature = "monitor")]
mod monitor;
mod poll;
#[cfg(feature = "server")]
mod serve;
mod streams;
mod upgrade;

/// Why a request got no session: the rejection of every extractor here.
pub use session_resume::adapter::Refusal as ResumeRejection;
#[cfg(feature = "server")]
pub use session_resume::adapter::{ServeHops, UntilStopped, stop_signal};
pub use session_resume::{Identity, IdentityChange, Session, adapter::bind};

#[cfg(feature = "monitor")]
pub use self::monitor::{Monitor, monitor};
#[cfg(feature = "server")]
pub use self::serve::{Served, serve, serve_hops};
pub use self::{
    connection::ResumeConnection, poll::outcomes, streams::streams, upgrade::ResumeUpgrade,
};
/// How a stream gives messages out: for [`streams()`].
pub use session_resume::adapter::Door;
/// Which way a request comes.
pub use session_resume::adapter::Kind;
/// What `useChat` of the AI SDK asks for: its routes are in the example of [`UiStream`].
pub use session_resume::adapter::{ResumeStart, UiStream, ui_stream};
