//! Which session a request belongs to: a function of the request and the identity.
//!
//! A [`KeyFn`] is given to the layer, which asks it on each request, before a router takes its part
//! of the path away. Whatever it answers is **scoped by identity**: two browsers never meet in one
//! session, even if their keys are equal. Only [`KeyFn::shared`] lifts that.
//!
//! # Rooms
//!
//! A route such as `/ws/{room}` needs [`by_path`], or a function of your own: [`by_identity`] and [`per_client`] know
//! nothing of rooms, and would put two of them into one session. So under these two a session has one path, that of
//! the upgrade that started its handler, and an upgrade on another one is refused: 409, or close 4101 for a client of
//! `session-resume.v1`. Paths are compared as in [`by_path`], literally and without the query. A route that is meant to
//! serve one session on several paths says `ResumeUpgrade::any_path()`. Under [`by_path`], [`by_header`] and
//! [`from_fn`] paths are not compared: there the application has chosen what meets in one session.
//!
//! # Example
//!
//! ```
//! use session_resume::{SessionResume, key};
//!
//! // Default: one session per browser.
//! let _ = SessionResume::new().with_key(key::by_identity());
//!
//! // One session per tab.
//! let _ = SessionResume::new().with_key(key::per_client());
//!
//! // A document that all clients that open it share; every other path has the browser's own session.
//! let document = key::from_fn(|req, _identity| {
//!     req.path().strip_prefix("/documents/").map(str::to_owned)
//! });
//! let _ = SessionResume::new().with_key(document.shared());
//!
//! // Your login's middleware, outside the layer, has put the user into the request's extensions.
//! #[derive(Clone)]
//! struct User(u64);
//! let user = key::from_fn(|req, _identity| req.extensions().get::<User>().map(|user| user.0));
//! let _ = SessionResume::new().with_key(user);
//! ```

mod name;
mod session_key;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use http::HeaderName;

pub use self::{
    name::{IntoSessionKey, KeyName},
    session_key::SessionKey,
};
use crate::words::{identity::Identity, request::RequestView};

/// Returns the key function that gives each identity one session: the default.
pub const fn by_identity() -> KeyFn {
    KeyFn::new(Source::Identity)
}

/// Returns the key function that gives each identity one session for each path. With [`KeyFn::shared`] all identities
/// on a path have one session together.
///
/// The path counts as it was sent, percent-encoded and without the query: `/a`, `/a/` and `/%61`
/// are three sessions.
pub const fn by_path() -> KeyFn {
    KeyFn::new(Source::Path)
}

/// Returns the key function that gives each value of the header `name` one session.
///
/// If the header is missing, empty, not UTF-8 or sent more than once, it is the identity's own
/// session.
///
/// # Panics
///
/// If `name` cannot be the name of a header.
///
/// # Security
///
/// Clients choose their headers. Use it [`shared`](KeyFn::shared) only with a header that a proxy
/// in front removes from what clients send and sets itself.
pub fn by_header<N>(name: N) -> KeyFn
where
    N: TryInto<HeaderName>,
    N::Error: fmt::Display,
{
    match name.try_into() {
        Ok(name) => KeyFn::new(Source::Header(name)),
        Err(err) => panic!("key::by_header: {err}"),
    }
}

/// Returns the key function that gives each [client](RequestView::client_id), that is each tab or
/// program instance, one session.
///
/// Without a client id, as on plain HTTP and for plain WebSocket clients, it is the identity's own
/// session.
pub const fn per_client() -> KeyFn {
    KeyFn::new(Source::Client)
}

/// Returns the key function that calls `f`.
///
/// `f` may return text, a number, a UUID or an `Option` of these ([`IntoSessionKey`]); `None` and
/// the empty text mean the identity's own session. It is called on every request, so it should be
/// quick; a panic in it is a panic of the request.
///
/// # Example
///
/// ```
/// use session_resume::key;
///
/// let _ = key::from_fn(|req, _identity| req.header("x-user").map(str::to_owned));
/// let _ = key::from_fn(|_req, identity| *identity.as_uuid());
/// let _ = key::from_fn(|req, _identity| req.uri().port_u16());
/// ```
pub fn from_fn<F, K>(f: F) -> KeyFn
where
    F: Fn(RequestView<'_>, Identity) -> K + Send + Sync + 'static,
    K: IntoSessionKey,
{
    KeyFn::new(Source::Custom(Arc::new(move |req, identity| f(req, identity).into_key_name())))
}

/// Decides which session a request belongs to. See the [module docs](self).
#[derive(Debug, Clone)]
pub struct KeyFn {
    source: Source,
    shared: bool,
}

impl KeyFn {
    const fn new(source: Source) -> Self {
        Self { source, shared: false }
    }

    /// Lets different identities meet in one session if their keys are equal.
    ///
    /// Where the function names no key (`None`, a missing header, no client id, and always
    /// [`by_identity`]) the session remains the identity's own: there is no session that all
    /// strangers fall into.
    ///
    /// # Security
    ///
    /// A client that can make the function return a key is in the session of that key. Let the key
    /// come from what the server knows (a user id set by a trusted proxy), or let the handler check
    /// which clients may come in.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Returns whether different identities meet where their keys are equal.
    pub(crate) const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Returns whether the application has chosen by this function what meets in one session: then the path of an
    /// upgrade is not compared with the path of its session.
    pub(crate) const fn is_of_the_application(&self) -> bool {
        match self.source {
            Source::Identity | Source::Client => false,
            Source::Path | Source::Header(_) | Source::Custom(_) => true,
        }
    }

    /// Returns the key of the session that `req` belongs to.
    pub(crate) fn key(&self, req: RequestView<'_>, identity: Identity) -> SessionKey {
        let name = match &self.source {
            // The default: most requests need no name.
            Source::Identity => return SessionKey::own(identity),
            Source::Path => KeyName::text(req.path()),
            Source::Header(name) => KeyName::optional_text(req.header(name)),
            Source::Client => KeyName::optional_text(req.client_id()),
            Source::Custom(f) => f(req, identity),
        };
        self.named(name, identity)
    }

    /// Returns the key of the session that this function would call so.
    pub(crate) fn named(&self, name: KeyName, identity: Identity) -> SessionKey {
        if self.shared {
            SessionKey::shared(name, identity)
        } else {
            SessionKey::scoped(name, identity)
        }
    }
}

impl Default for KeyFn {
    fn default() -> Self {
        by_identity()
    }
}

#[derive(Clone)]
enum Source {
    Identity,
    Path,
    Header(HeaderName),
    Client,
    Custom(Arc<dyn Fn(RequestView<'_>, Identity) -> KeyName + Send + Sync>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("by_identity"),
            Self::Path => f.write_str("by_path"),
            Self::Header(name) => write!(f, "by_header({name})"),
            Self::Client => f.write_str("per_client"),
            Self::Custom(_) => f.write_str("from_fn"),
        }
    }
}
