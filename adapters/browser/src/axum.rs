//! The files as an axum router.
//!
//! ```
//! let app: axum::Router = axum::Router::new()
//!     .route("/", axum::routing::get(|| async { "a page" }))
//!     .merge(session_resume_browser::axum::router());
//! ```

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, header};

use crate::assets;

/// Returns a router with every file at both of its paths.
///
/// Merge it outside the session layer: the files need no session.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    assets().fold(Router::new(), |router, asset| {
        let serve = move |headers: HeaderMap| async move {
            asset.respond(headers.get(header::IF_NONE_MATCH)).map(Body::from)
        };
        router.route(asset.path(), get(serve))
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, extract::Request, response::Response};
    use http::{Method, StatusCode};
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: Router, method: Method, path: &str, etag: Option<&str>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_is_served_at_its_paths() {
        for asset in assets() {
            let response = ask(router(), Method::GET, asset.path(), None).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::CONTENT_TYPE], asset.content_type());
            assert_eq!(response.headers()[header::ETAG], asset.etag());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(body, asset.body());
        }
    }

    #[tokio::test]
    async fn other_methods_revalidation_and_prefixes_work_as_with_any_file() {
        let path = "/session-resume.js";
        let etag = crate::asset(path).unwrap().etag().to_str().unwrap();
        let known = ask(router(), Method::GET, path, Some(etag)).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        let head = ask(router(), Method::HEAD, path, None).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert!(to_bytes(head.into_body(), 0).await.unwrap().is_empty());
        let post = ask(router(), Method::POST, path, None).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        let nested = Router::new().nest("/assets", router());
        let response = ask(nested, Method::GET, "/assets/session-resume.js", None).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
