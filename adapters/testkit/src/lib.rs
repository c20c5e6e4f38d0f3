//! Tests for applications on `session-resume`: does it work when the socket drops between question and answer?
//!
//! A [`TestServer`] serves any tower service in memory; a [`Browser`] has cookies and pages; a [`Page`] is
//! [`session_resume_client::Client`] on a network that the test can break. No ports, no real time: with
//! `start_paused` a test of ten minutes takes a moment.
//!
//! ```
//! use axum::{Router, response::Response, routing::any};
//! use session_resume::SessionResume;
//! use session_resume_axum::ResumeUpgrade;
//! use session_resume_testkit::TestServer;
//!
//! async fn live(upgrade: ResumeUpgrade) -> Response {
//!     upgrade.on_session(|mut session| async move {
//!         while let Some(question) = session.recv().await {
//!             session.send(format!("the answer to {}", question.as_text().unwrap_or_default())).await?;
//!         }
//!         Ok(())
//!     })
//! }
//!
//! fn app() -> Router {
//!     Router::new().route("/live", any(live)).layer(SessionResume::new())
//! }
//!
//! # macro_rules! test { ($(#[$attr:meta])* async fn $name:ident() $body:block) => {
//! #     tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
//! #         .block_on(async $body);
//! # } }
//! # test! {
//! #[tokio::test(start_paused = true)]
//! async fn the_socket_drops_between_question_and_answer() {
//!     let mut page = TestServer::new(app).browser().open("/live").await;
//!     page.send("it all");
//!     page.cut().await;
//!     assert_eq!(page.recv().await, "the answer to it all");
//! }
//! # }
//! ```
//!
//! [`cut`](Page::cut) lets the question arrive and then resets the connection, so the answer is written and does not
//! come. The page comes back, resumes, and is sent the answer. With warp only `app` is another:
//!
//! ```
//! # use session_resume::SessionResume;
//! # use session_resume_testkit::TestServer;
//! use tower::Layer as _;
//! use warp::Filter as _;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let app = || {
//!     let live = warp::path!("live").and(session_resume_warp::resume()).map(
//!         |upgrade: session_resume_warp::ResumeUpgrade| upgrade.on_session(|mut session| async move {
//!             while let Some(question) = session.recv().await {
//!                 session.send(format!("the answer to {}", question.as_text().unwrap_or_default())).await?;
//!             }
//!             Ok(())
//!         }),
//!     );
//!     SessionResume::new().layer(session_resume_warp::service(live))
//! };
//! let mut page = TestServer::new(app).browser().open("/live").await;
//! # page.send("it all");
//! # page.cut().await;
//! # assert_eq!(page.recv().await, "the answer to it all");
//! # });
//! ```
//!
//! # What can be done to a connection
//!
//! | | the client's end | the server's end | what was sent | what the server writes meanwhile |
//! | --- | --- | --- | --- | --- |
//! | [`cut`](Page::cut) | is reset | is reset | has arrived | is lost |
//! | [`lose(n)`](Page::lose) | is reset | is reset | has arrived, but for the last n messages | is lost |
//! | [`half_open`](Page::half_open) | is reset | hears nothing more | has arrived | is lost |
//! | [`freeze`](Page::freeze), [`thaw`](Page::thaw) | silence | silence | arrives after the thaw | arrives after the thaw |
//! | [`go_offline`](Page::go_offline), [`go_online`](Page::go_online) | is reset, cannot come back yet | is reset | has arrived | is lost |
//! | [`TestServer::restart`] | is reset | is gone, with all that was in memory | | |
//!
//! *Lost* is lost on this connection: a page that resumes is sent it again.
//!
//! # A restart
//!
//! ```
//! # use axum::{Router, response::Response, routing::any};
//! # use session_resume::{SessionResume, store::{MemoryStore, SnapshotStore}};
//! # use session_resume_axum::ResumeUpgrade;
//! # use session_resume_testkit::{Status, TestServer};
//! # async fn live(upgrade: ResumeUpgrade<u32>) -> Response {
//! #     upgrade.on_session(|mut session| async move {
//! #         while session.recv().await.is_some() {
//! #             let clicks = session.update(|clicks| { *clicks += 1; *clicks });
//! #             session.commit().await?;
//! #             session.send(clicks.to_string()).await?;
//! #         }
//! #         Ok(())
//! #     })
//! # }
//! fn app(store: impl SnapshotStore) -> Router {
//!     let resume = SessionResume::new().with_state::<u32>().with_store(store);
//!     Router::new().route("/live", any(live)).layer(resume)
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let server = TestServer::with_store(MemoryStore::new(), app);
//! let mut page = server.browser().open("/live").await;
//! page.send("click");
//! assert_eq!(page.recv().await, "1");
//! server.restart().await;                               // kill -9, and a new process over the same store
//! page.send("click");
//! # while page.recv_event().await != session_resume_testkit::Event::Message("2".into()) {}
//! # });
//! ```
//!
//! # A clock that is paused
//!
//! tokio moves a paused clock on when nothing else can happen. It does not see other threads: a store that works on one
//! (redb), a handler that blocks, and real sockets need a clock that runs. Use [`MemoryStore`](session_resume::store::MemoryStore)
//! with a paused one.
//!
//! # Without HTTP, without bytes
//!
//! [`transport`] is for the tests of an adapter of your own: a request as it is behind the layer, and a WebSocket of whole
//! frames.
//!
//! # Real sockets
//!
//! With the feature `tcp`, `Browser::at` does the same to a server that is another process, and `tcp::Proxy` is a network
//! for clients that are not ours.

mod answer;
mod browser;
mod frames;
mod line;
mod page;
mod server;
mod socket;
mod store;
#[cfg(feature = "tcp")]
pub mod tcp;
pub mod transport;
mod verbs;
mod wait;
mod wire;

pub use session_resume_client::{Client, Event, Gap, GapReason, Message, OutcomeStatus, Status};
pub use session_resume_proto::wire::{Close, Hello};

pub use self::{
    answer::Answer,
    browser::{Browser, OpenError},
    page::Page,
    server::TestServer,
    socket::{Received, Socket},
    store::ProcessStore,
    wait::{DEADLINE, soon, until},
};
