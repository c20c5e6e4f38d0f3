//! Sessions are extractors of axum: through `axum-core`, so that axum itself is no dependency.

use std::convert::Infallible;

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use http::{header, request::Parts};

use crate::{
    Identity, IdentityChange, Session,
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
        Self::into_response(self).into_response()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Self::into_response(self).into_response()
    }
}
