use std::{
    any::{Any, type_name},
    fmt,
    sync::Arc,
};

use http::{Extensions, HeaderValue};

use crate::{
    Identity, IdentityCookie, RequestView, key::SessionKey, random, refusal::Refusal,
    registry::Registry,
};

/// What the layer tells the extractors of a request, as its one extension.
#[derive(Clone)]
pub(crate) struct RequestContext {
    identity: Identity,
    key: SessionKey,
    /// Whether cookies for it shall be `Secure`; known if one has been made.
    secure: Option<bool>,
    /// The registry of the layer that made this, its state type erased.
    registry: Arc<dyn Any + Send + Sync>,
    /// What a layer around that one made.
    outer: Option<Box<RequestContext>>,
}

impl RequestContext {
    /// Identifies the browser and computes the key; returns the cookie to set, if the identity is new.
    pub(super) fn enter<T: Send + 'static>(
        registry: &Arc<Registry<T>>,
        req: RequestView<'_>,
        outer: Option<Self>,
    ) -> (Self, Option<HeaderValue>) {
        let config = registry.config();
        let known = match &outer {
            Some(outer) => Some(outer.identity),
            None => config.cookie.find(req.headers(), |token| registry.has_signed(token)),
        };
        let (identity, secure) = if let Some(identity) = known {
            (identity, None)
        } else {
            let secure = config.cookie.request_is_secure(req);
            (Identity::mint(random::bytes()), Some(secure))
        };
        let set_cookie = secure.map(|secure| registry.set_cookie(identity, secure));
        let key = config.key.key(req, identity);
        let registry = Arc::clone(registry) as Arc<dyn Any + Send + Sync>;
        (Self { identity, key, secure, registry, outer: outer.map(Box::new) }, set_cookie)
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

    /// Whether cookies for the session of this request shall be `Secure`.
    pub(crate) fn is_secure(&self, cookie: &IdentityCookie, req: RequestView<'_>) -> bool {
        self.secure.unwrap_or_else(|| cookie.request_is_secure(req))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
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
