//! What the layer tells of a request.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use http::uri::PathAndQuery;

use super::{
    identity::{CookieName, Identity, IdentityCookie, Via},
    key::SessionKey,
    path::PathDigest,
    refusal::Refusal,
    request::RequestView,
    visit::Visit,
};

/// What the layer tells the extractors of a request, as its one extension.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) identity: Identity,
    pub(crate) key: SessionKey,
    /// The path of an upgrade, as the layer sees it; `None` where paths are not compared.
    pub(crate) path: Option<PathDigest>,
    /// What a node of several may send on.
    #[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
    pub(crate) asked: Option<Arc<Asked>>,
    /// Its cookie has come back; else it was made for this request.
    pub(crate) known: bool,
    /// Its cookie may be that of another identity: the keys that prove it are not known here. It gets no session, and keeps its
    /// cookie.
    pub(crate) unsure: bool,
    /// Under which name its cookie came, or would be set.
    pub(crate) name: CookieName,
    /// What decides whether the answer sets a cookie; `None` for an answer that certainly sets none. It is that of the
    /// outermost layer.
    pub(crate) visit: Option<Arc<Visit>>,
    /// The registry of the layer that made this, its state type erased.
    pub(crate) registry: Arc<dyn Any + Send + Sync>,
    /// What a layer around that one made.
    pub(crate) outer: Option<Box<RequestContext>>,
}

/// What was asked for, as the layer sees it.
#[derive(Debug)]
#[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
pub(crate) struct Asked {
    pub(crate) path: Option<PathAndQuery>,
    /// What the node that has the session has answered: it is asked once, however many extractors ask here.
    pub(crate) answered: OnceLock<Refusal>,
}

/// The request that a handle is for.
#[derive(Clone, Copy)]
pub(crate) struct Requester {
    pub(crate) identity: Identity,
    /// The name that its identity's cookie has.
    pub(crate) cookie_name: CookieName,
}

impl RequestContext {
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

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("identity", &self.identity)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
