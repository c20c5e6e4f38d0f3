//! Sessions are extractors of axum: through `axum-core`, so that axum itself is no dependency.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use futures_util::future::BoxFuture;
use http::{Request, header, request::Parts};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Identity, IdentityChange, Session, SessionResume,
    adapter::{self, Answer, Refusal},
};

/// Finds the session of the request, or starts one.
impl<T, S> FromRequestParts<S> for Session<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        adapter::open(parts).await
    }
}

/// Looks for the session of the request without starting one, and without counting as activity.
impl<T, S> OptionalFromRequestParts<S> for Session<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        adapter::look(parts).await
    }
}

/// Who the browser is. Starts no session.
impl<S: Send + Sync> FromRequestParts<S> for Identity {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        adapter::identity(parts)
    }
}

/// Sets the cookie of the new identity: `(change, body)`.
impl IntoResponseParts for IdentityChange {
    type Error = Infallible;

    fn into_response_parts(
        self,
        mut response: ResponseParts,
    ) -> Result<ResponseParts, Self::Error> {
        if let Some(cookie) = self.set_cookie() {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        Ok(response)
    }
}

/// An empty answer that sets the cookie of the new identity.
impl IntoResponse for IdentityChange {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

/// Status, text, and `Retry-After` where that helps.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[cfg(feature = "http")]
        let response = self.into_body_response().map(Body::new);
        #[cfg(not(feature = "http"))]
        let response = self.into_bytes_response().map(Body::from);
        response
    }
}

/// Reads the body, so it is the last argument of a handler.
#[cfg(feature = "http")]
impl<T, S> axum_core::extract::FromRequest<S> for adapter::ResumeStart<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        Self::prepare(&parts, body).await
    }
}

#[cfg(feature = "http")]
impl<T: Send + 'static> IntoResponse for adapter::UiStream<T> {
    fn into_response(self) -> Response {
        Self::into_response(self).map(Body::new)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Self::into_response(self).into_response()
    }
}

impl<T: Send + 'static> SessionResume<T> {
    /// Returns a layer for routes whose requests are answered where their session is.
    ///
    /// A request that extracts a session of another node is sent on by the extractor, if it has no body. With a body that is too
    /// late: such a route needs this, as in `.route_layer(resume.at_owner())`, inside the layer itself. Answers stream through.
    /// Without a cluster every request goes on to the route.
    #[must_use]
    pub fn at_owner(&self) -> AtOwner<T> {
        AtOwner(PhantomData)
    }
}

/// A layer that sends requests on to the node that has their session; made by [`SessionResume::at_owner`].
pub struct AtOwner<T>(PhantomData<fn() -> T>);

/// The service of [`AtOwner`].
pub struct AtOwnerService<S, T> {
    inner: S,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for AtOwner<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<S: Clone, T> Clone for AtOwnerService<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for AtOwner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtOwner")
    }
}

impl<S, T> fmt::Debug for AtOwnerService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtOwnerService")
    }
}

impl<S, T> Layer<S> for AtOwner<T> {
    type Service = AtOwnerService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        AtOwnerService { inner, of: PhantomData }
    }
}

impl<S, T> Service<Request<Body>> for AtOwnerService<S, T>
where
    S: Service<Request<Body>, Response: IntoResponse, Future: Send> + Clone + Send + 'static,
    T: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            #[cfg(feature = "tungstenite")]
            let request = {
                use crate::door::hop;
                match hop::at_owner::<T, _>(request).await {
                    Ok(hop::AtOwner::Here(request)) => request,
                    Ok(hop::AtOwner::Answered(response)) => return Ok(response.map(Body::new)),
                    Err(refusal) => {
                        return Ok(refusal.counted().into_bytes_response().map(Body::from));
                    }
                }
            };
            Ok(inner.call(request).await?.into_response())
        })
    }
}
