//! session-resume for axum.
//!
//! Put [`SessionResume`](session_resume::SessionResume) around the router, extract [`Session`] in HTTP handlers
//! and [`ResumeUpgrade`] in the WebSocket's.
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
//! async fn page(Session(session): Session<Counter>) -> String {
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

mod poll;
mod rejection;
#[cfg(feature = "server")]
mod serve;
mod session;
mod upgrade;

pub use session_resume::adapter::bind;
#[cfg(feature = "server")]
pub use session_resume::adapter::{UntilStopped, stop_signal};

#[cfg(feature = "server")]
pub use self::serve::{Served, serve};
pub use self::{
    poll::outcomes,
    rejection::ResumeRejection,
    session::{Identity, IdentityChange, Session},
    upgrade::ResumeUpgrade,
};
