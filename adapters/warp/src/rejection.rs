use session_resume::adapter::Refusal;
use warp::{Rejection, Reply, reject::Reject, reply::Response};

/// Why a request got no session: an answer with status, text, and `Retry-After` where that helps.
#[derive(Debug, Clone)]
pub struct ResumeRejection(Refusal);

impl From<Refusal> for ResumeRejection {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl Reject for ResumeRejection {}

impl Reply for ResumeRejection {
    fn into_response(self) -> Response {
        self.0.into_response().into_response()
    }
}

/// Answers our own rejections and leaves others to warp.
pub(crate) async fn recover(rejection: Rejection) -> Result<Response, Rejection> {
    let ours = rejection.find::<ResumeRejection>().cloned();
    ours.map(Reply::into_response).ok_or(rejection)
}
