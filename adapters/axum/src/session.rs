use std::ops::{Deref, DerefMut};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponseParts, ResponseParts},
};
use http::{header, request::Parts};
use session_resume::adapter;

use crate::ResumeRejection;

/// Extracts the session of the request, starting one if there is none.
///
/// `Option<Session<T>>` looks without starting one, and without counting as activity. Take it apart as
/// `Session(session): Session<T>`, or use it as it is: it derefs to [`session_resume::Session`].
#[derive(Debug)]
pub struct Session<T = ()>(pub session_resume::Session<T>);

impl<T: Send + 'static> Session<T> {
    /// As [`session_resume::Session::cycle_identity`], as a part of axum's response.
    pub fn cycle_identity(&self) -> IdentityChange {
        IdentityChange(self.0.cycle_identity())
    }
}

impl<T, S> FromRequestParts<S> for Session<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = ResumeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(adapter::open(parts).await?))
    }
}

impl<T, S> OptionalFromRequestParts<S> for Session<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = ResumeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(adapter::look(parts).await?.map(Self))
    }
}

impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Session<T> {
    type Target = session_resume::Session<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Extracts who the browser is. Starts no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub session_resume::Identity);

impl<S: Send + Sync> FromRequestParts<S> for Identity {
    type Rejection = ResumeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(adapter::identity(parts)?))
    }
}

impl Deref for Identity {
    type Target = session_resume::Identity;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The cookie of a new identity, as a part of the response: `(change, body)`.
#[derive(Debug, Clone)]
#[must_use = "the browser loses its session unless the response sets the cookie"]
pub struct IdentityChange(session_resume::IdentityChange);

impl IdentityChange {
    /// As [`session_resume::IdentityChange::identity`].
    pub fn identity(&self) -> Option<session_resume::Identity> {
        self.0.identity()
    }
}

impl IntoResponseParts for IdentityChange {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut res: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Some(cookie) = self.0.set_cookie() {
            res.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        Ok(res)
    }
}
