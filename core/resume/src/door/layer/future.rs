use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, header};
use pin_project_lite::pin_project;

use crate::words::visit::Visit;

pin_project! {
    /// The response future of [`SessionResumeService`](super::SessionResumeService).
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        visit: Option<Arc<Visit>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, visit: Option<Arc<Visit>>) -> Self {
        Self { inner, visit }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.visit.is_none() {
            // Nothing to add for most browsers that we know: the response need not be moved through here.
            return this.inner.poll(cx);
        }
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(visit) = this.visit.take()
            && let Some(cookie) = visit.cookie(response.status(), response.headers())
        {
            // Appended: the application's own cookies stay.
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
