use std::{
    any::{Any, type_name},
    fmt,
    sync::Arc,
};

use http::Extensions;

use super::visit::{Occasion, Visit};
use crate::{
    Identity, IdentityCookie, RequestView,
    door::upgrade::PathDigest,
    live::{registry::Registry, session::Requester},
    words::{
        identity::{CookieName, Via},
        key::SessionKey,
        random,
        refusal::Refusal,
    },
};

/// What the layer tells the extractors of a request, as its one extension.
#[derive(Clone)]
pub(crate) struct RequestContext {
    identity: Identity,
    key: SessionKey,
    /// The path of an upgrade, as the layer sees it; `None` where paths are not compared.
    path: Option<PathDigest>,
    /// Its cookie has come back; else it was made for this request.
    known: bool,
    /// Under which name its cookie came, or would be set.
    name: CookieName,
    /// What decides whether the answer sets a cookie; `None` for an answer that certainly sets none. It is that of the
    /// outermost layer.
    visit: Option<Arc<Visit>>,
    /// The registry of the layer that made this, its state type erased.
    registry: Arc<dyn Any + Send + Sync>,
    /// What a layer around that one made.
    outer: Option<Box<RequestContext>>,
}

impl RequestContext {
    /// Identifies the browser and computes the key; returns what decides whether the answer sets a cookie.
    pub(super) fn enter<T: Send + 'static>(
        registry: &Arc<Registry<T>>,
        req: RequestView<'_>,
        outer: Option<Self>,
    ) -> (Self, Option<Arc<Visit>>) {
        let (identity, known, name, visit) = match &outer {
            Some(outer) => (outer.identity, outer.known, outer.name, outer.visit.clone()),
            None => identify(registry, req),
        };
        let decides = visit.clone().filter(|_| outer.is_none());
        let by = &registry.config().key;
        let key = by.key(req, identity);
        let asks_path = !by.is_of_the_application() && req.is_upgrade();
        let path = asks_path.then(|| PathDigest::of(req.path()));
        let registry = Arc::clone(registry) as Arc<dyn Any + Send + Sync>;
        (
            Self { identity, key, path, known, name, visit, registry, outer: outer.map(Box::new) },
            decides,
        )
    }

    /// Whether the same layer value has been here already.
    pub(super) fn is_of<T>(&self, registry: &Arc<Registry<T>>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.registry), Arc::as_ptr(registry))
            || self.outer.as_ref().is_some_and(|outer| outer.is_of(registry))
    }

    /// Finds the innermost layer with state of type `T`.
    pub(crate) fn of<T: Send + 'static>(
        extensions: &Extensions,
    ) -> Result<(&Self, &Registry<T>), Refusal> {
        let innermost = extensions.get::<Self>().ok_or_else(Refusal::missing_layer)?;
        let mut context = Some(innermost);
        while let Some(candidate) = context {
            if let Some(registry) = candidate.registry.downcast_ref() {
                return Ok((candidate, registry));
            }
            context = candidate.outer.as_deref();
        }
        Err(Refusal::another_state(type_name::<T>()))
    }

    /// The request has used its identity or a session: the browser keeps that identity.
    pub(crate) fn has_used(&self) {
        if let Some(visit) = &self.visit {
            visit.has_used();
        }
    }

    /// How a cookie for the session of this request is set.
    pub(crate) fn via(&self, cookie: &IdentityCookie, req: RequestView<'_>) -> Via {
        let known = || Via { name: self.name, secure: cookie.request_is_secure(req) };
        self.visit.as_ref().map_or_else(known, |visit| visit.via())
    }

    /// Returns whether the identity's cookie has come back; else it was made for this request.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Returns whether a request that finds its session there comes back to it: its cookie has come back, or the
    /// application's own key has led here again, as for programs that keep no cookies.
    pub(crate) fn comes_back(&self) -> bool {
        self.known || self.key.is_shared()
    }

    /// Under which name its cookie came, or would be set.
    pub(crate) fn cookie_name(&self) -> CookieName {
        self.name
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn requester(&self) -> Requester {
        Requester { identity: self.identity, cookie_name: self.cookie_name() }
    }

    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Returns the path of an upgrade as the layer saw it; `None` where paths are not compared.
    pub(crate) fn path(&self) -> Option<PathDigest> {
        self.path
    }
}

/// Finds out who the browser is, whether its cookie has come back, and under which name that came, or would be set.
fn identify<T: Send + 'static>(
    registry: &Registry<T>,
    req: RequestView<'_>,
) -> (Identity, bool, CookieName, Option<Arc<Visit>>) {
    let cookie = &registry.config().cookie;
    let found = cookie.find(req, |token| registry.has_signed(token));
    let now = registry.hour();
    let (occasion, identity, name) = match found.known {
        Some(known) if !(cookie.is_renewed() && known.issued.is_over(now)) => {
            return (known.identity, true, known.name, None);
        }
        Some(known) => (Occasion::Renewal, known.identity, known.name),
        None => {
            if found.foreign {
                registry.has_seen_foreign_cookie();
            }
            let identity = Identity::mint(random::bytes());
            let name = cookie.name_for(req);
            // The browser has kept its cookie from us, and must not lose it: this identity is for this request alone.
            if cookie.is_withheld(req) {
                return (identity, false, name, None);
            }
            (Occasion::New, identity, name)
        }
    };
    let known = found.known.is_some();
    if req.is_preflight() {
        return (identity, known, name, None);
    }
    let via = Via { name, secure: cookie.request_is_secure(req) };
    let visit = Visit::new(occasion, req, identity, via, now, registry.set_cookie());
    (identity, known, name, Some(visit))
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("identity", &self.identity)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
