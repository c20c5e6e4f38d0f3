//! Whether an answer sets the identity cookie.

#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    Identity, RequestView,
    words::{
        identity::{Hour, SetCookie, Via},
        request::{is_media_type, list_items},
    },
};

/// A request whose answer may set the identity cookie: that of a new identity, or one that is due for renewal.
///
/// Whether it does is known when the answer is there. Shared by the request's context, which is told of use, and
/// the response future.
pub(crate) struct Visit {
    identity: Identity,
    now: Hour,
    via: Via,
    set_cookie: Arc<SetCookie>,
    /// A page sets the cookie though its handler has used nothing.
    wants_page: bool,
    used: AtomicBool,
}

/// Why a visit may end in a cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Occasion {
    /// The browser is new to us.
    New,
    /// It is known, and its cookie was set a day ago.
    Renewal,
}

impl Visit {
    pub(crate) fn new(
        occasion: Occasion,
        req: RequestView<'_>,
        identity: Identity,
        via: Via,
        now: Hour,
        set_cookie: &Arc<SetCookie>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            now,
            via,
            set_cookie: Arc::clone(set_cookie),
            // Only use renews a cookie.
            wants_page: occasion == Occasion::New && req.is_navigation(),
            used: AtomicBool::new(false),
        })
    }

    /// The request has used its identity or a session.
    pub(crate) fn has_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// Returns the cookie as the browser will send it: name and token.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn pair(&self) -> Vec<u8> {
        let value = self.set_cookie.value(self.identity, self.now, self.via);
        let end = value.as_bytes().iter().position(|byte| *byte == b';');
        value.as_bytes()[..end.unwrap_or(value.len())].to_vec()
    }

    /// Returns the cookie that this answer sets.
    pub(crate) fn cookie(&self, status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
        let used = self.used.load(Ordering::Relaxed);
        let wanted = used || (self.wants_page && is_page(status, headers));
        if !wanted {
            return None;
        }
        if may_be_shared(headers) {
            // All clients of that cache would get this identity.
            if used {
                tracing::debug!(
                    "an answer that shared caches may keep sets no identity cookie, though its request used one"
                );
            }
            return None;
        }
        if self.set_cookie.is_set_in(headers) {
            return None;
        }
        Some(self.set_cookie.value(self.identity, self.now, self.via))
    }
}

/// Whether an answer is a page, so that its own requests follow.
fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    status.is_success()
        && content_type.is_some_and(|value| is_media_type(value.as_bytes(), b"text/html"))
}

/// Whether caches that others use, too, may keep the answer.
fn may_be_shared(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::CACHE_CONTROL) {
        return false;
    }
    list_items(headers, &header::CACHE_CONTROL).any(|directive| {
        let end = directive.iter().position(|&byte| byte == b'=').unwrap_or(directive.len());
        let name = directive[..end].trim_ascii();
        [&b"public"[..], b"s-maxage", b"immutable"]
            .iter()
            .any(|shared| name.eq_ignore_ascii_case(shared))
    })
}
