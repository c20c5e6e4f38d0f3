use std::borrow::Cow;

use http::StatusCode;
use session_resume::adapter::Refusal;
use warp::{
    Rejection, Reply,
    reject::Reject,
    reply::{self, Response},
};

/// Why a request got no session: an answer with status, text, and `Retry-After` where that helps.
#[derive(Debug, Clone)]
pub struct ResumeRejection(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Refused(Refusal),
    NotAnUpgrade(StatusCode, Cow<'static, str>),
}

impl ResumeRejection {
    /// Returns the status that it is answered with.
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            Kind::Refused(refusal) => refusal.status(),
            Kind::NotAnUpgrade(status, _) => *status,
        }
    }

    pub(crate) fn not_an_upgrade(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Kind::NotAnUpgrade(status, text.into()))
    }

    pub(crate) fn no_service() -> Self {
        Self::not_an_upgrade(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the filters of session-resume need session_resume_warp::service(routes), with a layer around it, \
             in place of warp::service or warp::serve",
        )
    }
}

impl From<Refusal> for ResumeRejection {
    fn from(refusal: Refusal) -> Self {
        Self(Kind::Refused(refusal))
    }
}

impl Reject for ResumeRejection {}

impl Reply for ResumeRejection {
    fn into_response(self) -> Response {
        match self.0 {
            Kind::Refused(refusal) => refusal.into_response().into_response(),
            Kind::NotAnUpgrade(status, text) => {
                reply::with_status(format!("{text}\n"), status).into_response()
            }
        }
    }
}

/// Answers our own rejections and leaves others to warp.
pub(crate) async fn recover(rejection: Rejection) -> Result<Response, Rejection> {
    let ours = rejection.find::<ResumeRejection>().cloned();
    ours.map(Reply::into_response).ok_or(rejection)
}
