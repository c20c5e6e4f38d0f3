//! session-resume for warp.
//!
//! Use [`session`] in HTTP filters and [`resume`] in the WebSocket's, make a tower service of all filters with
//! [`service`], and put [`SessionResume`](session_resume::SessionResume) around it. [`serve()`] runs it on a
//! listener.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use session_resume::{Session, SessionResume};
//! use session_resume_warp::ResumeUpgrade;
//! use tower::Layer as _;
//! use warp::Filter as _;
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter { clicks: u64 }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let page = warp::path::end().and(warp::get()).and(session_resume_warp::session()).map(
//!     |session: Session<Counter>| format!("{} clicks so far", session.read(|counter| counter.clicks)),
//! );
//! let live = warp::path!("live").and(session_resume_warp::resume()).map(
//!     |upgrade: ResumeUpgrade<Counter>| upgrade.on_session(|mut session| async move {
//!         while let Some(_click) = session.recv().await {
//!             let clicks = session.update(|counter| { counter.clicks += 1; counter.clicks });
//!             session.send(format!("{clicks}")).await?;
//!         }
//!         Ok(())
//!     }),
//! );
//! let routes = page.or(live).or(session_resume_warp::outcomes::<Counter>());
//!
//! let resume = SessionResume::new().with_state::<Counter>();
//! let app = resume.layer(session_resume_warp::service(routes));
//! let listener = session_resume_warp::bind("127.0.0.1:3030").await?;
//! // Until ctrl-c or SIGTERM; then the sessions are drained.
//! session_resume_warp::serve(listener, app).until_stopped(&resume).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Inside axum
//!
//! An axum router takes the same service, so that both share one layer and its sessions:
//! `Router::new().nest_service("/old", session_resume_warp::service(routes)).layer(resume)`.
//!
//! # Rejections
//!
//! A request that gets no session is rejected with [`ResumeRejection`], and [`service`] answers it with the
//! status and text that the axum adapter would. As with every rejection in warp, a filter further down an
//! `or` may take the request first: a route that takes everything belongs on a path of its own. A `recover` of
//! the application's own finds the rejection with `rejection.find::<ResumeRejection>()`; it is a
//! [`Reply`](warp::Reply).
//!
//! # Limits
//!
//! `warp::addr::remote()` is always `None` in a tower service: hand the address over as an extension.

mod connection;
mod filters;
#[cfg(feature = "monitor")]
mod monitor;
mod rejection;
mod service;

pub use session_resume::adapter::{Door, Kind, ResumeStart, ResumeUpgrade, UiStream, ui_stream};
#[cfg(feature = "server")]
pub use session_resume::adapter::{
    Serve, ServeHops, UntilStopped, bind, serve, serve_hops, stop_signal,
};

#[cfg(feature = "monitor")]
pub use self::monitor::{Monitor, monitor};
pub use self::{
    connection::ResumeConnection,
    filters::{
        connect, identity, optional_session, outcomes, parts, reply, resume, session, start,
        streams, with_identity_change,
    },
    rejection::ResumeRejection,
    service::{FilterService, service},
};
