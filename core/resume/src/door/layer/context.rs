use std::{
    any::{Any, type_name},
    sync::{Arc, OnceLock},
};

use http::Extensions;
use tokio::runtime::Handle;

#[cfg(feature = "http")]
use crate::key::KeyName;
use crate::{
    Identity, RequestView,
    live::registry::Registry,
    tasks,
    words::{
        context::{Asked, RequestContext},
        identity::{CookieName, Known, Via},
        path::PathDigest,
        random,
        refusal::Refusal,
        visit::{Occasion, Visit},
    },
};

impl RequestContext {
    /// Identifies the browser and computes the key; returns what decides whether the answer sets a cookie.
    pub(super) fn enter<T: Send + 'static>(
        registry: &Arc<Registry<T>>,
        req: RequestView<'_>,
        outer: Option<Self>,
    ) -> (Self, Option<Arc<Visit>>) {
        let Browser { identity, known, unsure, name, visit } = match &outer {
            Some(outer) => Browser {
                identity: outer.identity,
                known: outer.known,
                unsure: outer.unsure,
                name: outer.name,
                visit: outer.visit.clone(),
            },
            None => identify(registry, req),
        };
        let decides = visit.clone().filter(|_| outer.is_none());
        let by = &registry.config().key;
        let key = by.key(req, identity);
        let asks_path = !by.is_of_the_application() && req.is_upgrade();
        let path = asks_path.then(|| PathDigest::of(req.path()));
        let asked = registry.node().map(|_| {
            let path = req.uri().path_and_query().cloned();
            Arc::new(Asked { path, answered: OnceLock::new() })
        });
        let registry = Arc::clone(registry) as Arc<dyn Any + Send + Sync>;
        (
            Self {
                identity,
                key,
                path,
                asked,
                known,
                unsure,
                name,
                visit,
                registry,
                outer: outer.map(Box::new),
            },
            decides,
        )
    }

    /// Whether the same layer value has been here already.
    pub(super) fn is_of<T>(&self, registry: &Arc<Registry<T>>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.registry), Arc::as_ptr(registry))
            || self.outer.as_ref().is_some_and(|outer| outer.is_of(registry))
    }

    /// Finds the innermost layer with state of type `T`. Something is asked of it, so its tasks run from now on.
    pub(crate) fn of<T: Send + 'static>(
        extensions: &Extensions,
    ) -> Result<(&Self, &Registry<T>), Refusal> {
        let innermost = extensions.get::<Self>().ok_or_else(Refusal::missing_layer)?;
        let mut context = Some(innermost);
        while let Some(candidate) = context {
            if let Some(registry) = candidate.registry.downcast_ref() {
                tasks::start(registry);
                if candidate.unsure {
                    return Err(Refusal::keys_not_read());
                }
                return Ok((candidate, registry));
            }
            context = candidate.outer.as_deref();
        }
        Err(Refusal::another_state(type_name::<T>()))
    }

    /// Says that a request is for the session that the key function would call so, whatever its head says.
    #[cfg(feature = "http")]
    pub(crate) fn rename<T: Send + 'static>(
        extensions: &mut Extensions,
        name: KeyName,
    ) -> Result<(), Refusal> {
        let innermost = extensions.get_mut::<Self>().ok_or_else(Refusal::missing_layer)?;
        let mut context = Some(innermost);
        while let Some(candidate) = context {
            if let Some(registry) = candidate.registry.downcast_ref::<Registry<T>>() {
                candidate.key = registry.config().key.named(name, candidate.identity);
                return Ok(());
            }
            context = candidate.outer.as_deref_mut();
        }
        Err(Refusal::another_state(type_name::<T>()))
    }
}

/// Who the browser is.
struct Browser {
    identity: Identity,
    /// Its cookie has come back.
    known: bool,
    /// It is not known whether its cookie has come back.
    unsure: bool,
    /// Under which name its cookie came, or would be set.
    name: CookieName,
    visit: Option<Arc<Visit>>,
}

/// Finds out who the browser is.
fn identify<T: Send + 'static>(registry: &Registry<T>, req: RequestView<'_>) -> Browser {
    let cookie = &registry.config().cookie;
    let found = cookie.find(req, |token| registry.signature(token));
    let now = registry.hour();
    let (occasion, identity, name) = match found.known {
        Some(known) if !(known.by_old_key || cookie.is_renewed() && known.issued.is_over(now)) => {
            let Known { identity, name, .. } = known;
            return Browser { identity, known: true, unsure: false, name, visit: None };
        }
        Some(known) => (Occasion::Renewal, known.identity, known.name),
        None => {
            keep_keys_read(registry);
            if found.foreign {
                registry.has_seen_foreign_cookie();
            }
            let identity = Identity::mint(random::bytes());
            let name = cookie.name_for(req);
            // The browser has kept its cookie from us, or we cannot read it, and it must not lose it: this identity is
            // for this request alone.
            let unsure = registry.cannot_tell(found.foreign);
            if unsure || cookie.is_withheld(req) {
                return Browser { identity, known: false, unsure, name, visit: None };
            }
            (Occasion::New, identity, name)
        }
    };
    let known = found.known.is_some();
    if req.is_preflight() {
        return Browser { identity, known, unsure: false, name, visit: None };
    }
    let via = Via { name, secure: cookie.request_is_secure(req) };
    let visit = Visit::new(occasion, req, identity, via, now, registry.key_set().set_cookie());
    Browser { identity, known, unsure: false, name, visit: Some(visit) }
}

/// Keys that a store keeps are read again and again, although no request has asked for a session yet.
fn keep_keys_read<T: Send + 'static>(registry: &Registry<T>) {
    if registry.has_stored_keys() && !registry.is_at_work() && Handle::try_current().is_ok() {
        tasks::start(registry);
    }
}
