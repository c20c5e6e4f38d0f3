use axum::{
    extract::ws::rejection::WebSocketUpgradeRejection,
    response::{IntoResponse, Response},
};
use session_resume::adapter::Refusal;

/// Why a request got no session: an answer with status, text, and `Retry-After` where that helps.
#[derive(Debug)]
pub struct ResumeRejection(Kind);

#[derive(Debug)]
enum Kind {
    Refused(Refusal),
    NotAnUpgrade(WebSocketUpgradeRejection),
}

impl From<Refusal> for ResumeRejection {
    fn from(refusal: Refusal) -> Self {
        Self(Kind::Refused(refusal))
    }
}

impl From<WebSocketUpgradeRejection> for ResumeRejection {
    fn from(rejection: WebSocketUpgradeRejection) -> Self {
        Self(Kind::NotAnUpgrade(rejection))
    }
}

impl IntoResponse for ResumeRejection {
    fn into_response(self) -> Response {
        match self.0 {
            Kind::Refused(refusal) => refusal.into_response().into_response(),
            Kind::NotAnUpgrade(rejection) => rejection.into_response(),
        }
    }
}
