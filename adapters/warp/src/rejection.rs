use std::fmt;

use http::StatusCode;
use session_resume::adapter::Refusal;
use warp::{Rejection, Reply, reject::Reject, reply::Response};

/// Why a request got no session: an answer with status, text, and `Retry-After` where that helps.
///
/// It is an error: `Display` is the text of the answer, for a developer or operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeRejection(Refusal);

impl ResumeRejection {
    /// Returns the status to answer with.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Returns the value of `Retry-After` to answer with, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.0.retry_after()
    }
}

impl fmt::Display for ResumeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ResumeRejection {}

impl From<Refusal> for ResumeRejection {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl Reject for ResumeRejection {}

impl Reply for ResumeRejection {
    fn into_response(self) -> Response {
        crate::connection::reply(self.0.into_body_response())
    }
}

/// Answers our own rejections and leaves others to warp.
pub(crate) async fn recover(rejection: Rejection) -> Result<Response, Rejection> {
    let ours = rejection.find::<ResumeRejection>().cloned();
    ours.map(Reply::into_response).ok_or(rejection)
}
