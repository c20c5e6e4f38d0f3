use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::ResponseFuture;
use crate::words::context::RequestContext;
use crate::{RequestView, live::registry::Registry};

/// The middleware that [`SessionResume`](crate::SessionResume) puts around a service.
pub struct SessionResumeService<S, T = ()> {
    inner: S,
    registry: Arc<Registry<T>>,
}

impl<S, T> SessionResumeService<S, T> {
    pub(crate) fn new(inner: S, registry: Arc<Registry<T>>) -> Self {
        Self { inner, registry }
    }

    /// Returns the service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, T, ReqBody, ResBody> Service<Request<ReqBody>> for SessionResumeService<S, T>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    T: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = match request.extensions_mut().remove::<RequestContext>() {
            // The same layer value, applied twice.
            Some(context) if context.is_of(&self.registry) => {
                request.extensions_mut().insert(context);
                return ResponseFuture::new(self.inner.call(request), None);
            }
            outer => outer,
        };
        let (context, visit) =
            RequestContext::enter(&self.registry, RequestView::of(&request), outer);
        request.extensions_mut().insert(context);
        ResponseFuture::new(self.inner.call(request), visit)
    }
}

impl<S: Clone, T> Clone for SessionResumeService<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), registry: Arc::clone(&self.registry) }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for SessionResumeService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionResumeService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
