//! Looks for the session of a request.

use http::request::Parts;

use crate::{
    RequestView, Session, SessionOrigin,
    door::elsewhere::Elsewhere,
    durable::restore::Asks,
    live::{registry::Registry, session::Purpose},
    words::{context::RequestContext, refusal::Refusal},
};

/// Looks for the session of a request without starting one, and without counting as activity.
pub(crate) async fn find<T: Send + 'static>(parts: &Parts) -> Result<Option<Session<T>>, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    check_origin(registry, parts)?;
    let asks = Asks { context, req: RequestView::from_parts(parts), continues: None, looks: true };
    let mut elsewhere = Elsewhere::new();
    let ready = loop {
        match registry.ready(&asks, &Purpose::Extract).await {
            Ok(ready) => break ready,
            Err(apart) => elsewhere.ask(registry, parts, apart).await?,
        }
    };
    if let Some(session) = ready {
        return Ok(Some(Session::seen(session, SessionOrigin::Restored, context.requester())));
    }
    let seen = |session| Session::seen(session, SessionOrigin::Reused, context.requester());
    Ok(registry.look(context).map(seen))
}

/// A browser sends the cookie with every upgrade, whichever handler it is for. So a foreign page gets no session.
pub(crate) fn check_origin<T>(registry: &Registry<T>, parts: &Parts) -> Result<(), Refusal> {
    let req = RequestView::from_parts(parts);
    if req.is_upgrade() { registry.check_origin(req) } else { Ok(()) }
}
