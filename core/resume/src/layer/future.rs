use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Response, header};
use pin_project_lite::pin_project;

pin_project! {
    /// The response future of [`SessionResumeService`](super::SessionResumeService).
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        set_cookie: Option<HeaderValue>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, set_cookie: Option<HeaderValue>) -> Self {
        Self { inner, set_cookie }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.set_cookie.is_none() {
            // Nothing to add for whom we know: the response need not be moved through here.
            return this.inner.poll(cx);
        }
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(cookie) = this.set_cookie.take()
            && !sets_same_cookie(response.headers(), &cookie)
        {
            // Appended: the application's own cookies stay.
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}

/// A handler that has changed the identity has the last word.
fn sets_same_cookie(headers: &HeaderMap, cookie: &HeaderValue) -> bool {
    let name = |value: &HeaderValue| {
        value.as_bytes().split(|&byte| byte == b'=').next().map(<[u8]>::to_vec)
    };
    headers.contains_key(header::SET_COOKIE)
        && headers.get_all(header::SET_COOKIE).iter().any(|value| name(value) == name(cookie))
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
