//! A rejection is an error like any other: `WithRejection` and `thiserror` take it.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_extra::extract::WithRejection;
use session_resume_axum::{ResumeRejection, Session};
use thiserror::Error;
use tower::ServiceExt as _;

#[derive(Debug, Error)]
enum AppError {
    #[error("no session: {0}")]
    Session(#[from] ResumeRejection),
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let Self::Session(cause) = &self;
        (cause.status(), self.to_string()).into_response()
    }
}

async fn page(WithRejection(session, _): WithRejection<Session<u32>, AppError>) -> String {
    session.id().to_string()
}

#[tokio::test]
async fn an_application_answers_a_rejection_in_its_own_form() {
    // Without the layer there is no session.
    let app: Router = Router::new().route("/", get(page));
    let answer = app.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.starts_with("no session: no session-resume layer around this route"), "{text}");
}
