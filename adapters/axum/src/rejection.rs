use axum::response::{IntoResponse, Response};
use session_resume::adapter::Refusal;

/// Why a request got no session: an answer with status, text, and `Retry-After` where that helps.
#[derive(Debug, Clone)]
pub struct ResumeRejection(Refusal);

impl From<Refusal> for ResumeRejection {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for ResumeRejection {
    fn into_response(self) -> Response {
        self.0.into_response().into_response()
    }
}
