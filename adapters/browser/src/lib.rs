//! The browser client of session-resume, embedded and ready to be served.
//!
//! A page needs one line, and no build step:
//!
//! ```html
//! <script type="module">
//!   import { ResumableSocket } from '/session-resume.js';
//!   import { notify } from '/session-resume-notify.js';
//!   const socket = new ResumableSocket('/live');
//!   socket.onmessage = ({ data }) => console.log(data);
//!   notify(socket);
//! </script>
//! ```
//!
//! With axum, `axum::router()` (feature `axum`) serves both files, with warp, `warp::files()` (feature
//! `warp`); any other framework asks [`respond`]:
//!
//! ```
//! use session_resume_browser::{path_of, respond};
//!
//! let response = respond("/session-resume.js", None).expect("embedded");
//! assert_eq!(response.headers()["content-type"], "text/javascript; charset=utf-8");
//! // This name changes with the content, so that browsers keep the file for good.
//! assert!(path_of("session-resume").expect("embedded").ends_with(".js"));
//! ```

mod asset;
#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "warp")]
pub mod warp;

pub use asset::{Asset, asset, assets, path_of, respond};
