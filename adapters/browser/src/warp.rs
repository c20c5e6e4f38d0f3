//! The files as a warp filter.
//!
//! ```
//! use warp::Filter as _;
//!
//! let page = warp::path::end().map(|| "a page");
//! let routes = page.or(session_resume_browser::warp::files());
//! # let _: warp::filters::BoxedFilter<(_,)> = routes.boxed();
//! ```

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use warp::{Filter, Rejection, reject};

use crate::asset;

/// Returns a filter that serves every file at both of its paths.
///
/// Any other path is left to the filters after it. The files need no session, but they may stand among
/// filters that do.
pub fn files() -> impl Filter<Extract = (Response<Bytes>,), Error = Rejection> + Clone {
    let methods = warp::get().or(warp::head()).unify();
    // The path first: another method is answered 405 only where there is a file.
    warp::path::param::<String>()
        .and(warp::path::end())
        .and_then(async |name: String| asset(&format!("/{name}")).ok_or_else(reject::not_found))
        .and(methods)
        .and(warp::header::headers_cloned())
        .map(|asset: &'static crate::Asset, headers: HeaderMap| {
            asset.respond(headers.get(header::IF_NONE_MATCH))
        })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use warp::test::{RequestBuilder, request};

    use super::*;
    use crate::assets;

    async fn ask(request: RequestBuilder) -> Response<Bytes> {
        let page = warp::path::end().map(|| "a page");
        let other = warp::path!("session-resume.txt").map(|| "another file");
        let nested = warp::path("assets").and(files());
        request.reply(&page.or(files()).or(other).or(nested)).await
    }

    #[tokio::test]
    async fn every_file_is_served_at_its_paths() {
        for asset in assets() {
            let response = ask(request().path(asset.path())).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::CONTENT_TYPE], asset.content_type());
            assert_eq!(response.headers()[header::ETAG], asset.etag());
            assert_eq!(response.headers()[header::CACHE_CONTROL], asset.cache_control());
            assert_eq!(response.body(), asset.body());
        }
    }

    #[tokio::test]
    async fn other_methods_revalidation_and_prefixes_work_as_with_any_file() {
        let path = "/session-resume.js";
        let etag = asset(path).unwrap().etag();
        let known = ask(request().path(path).header(header::IF_NONE_MATCH, etag)).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert!(known.body().is_empty());
        assert_eq!(ask(request().method("HEAD").path(path)).await.status(), StatusCode::OK);
        let post = ask(request().method("POST").path(path)).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        let nested = ask(request().path("/assets/session-resume.js")).await;
        assert_eq!(nested.body(), asset(path).unwrap().body());
    }

    #[tokio::test]
    async fn other_paths_are_left_to_other_filters() {
        assert_eq!(ask(request().path("/")).await.body(), "a page");
        assert_eq!(ask(request().path("/session-resume.txt")).await.body(), "another file");
        for path in ["/session-resume-0.js", "/session-resume.js/more", "/assets/", "/assets"] {
            assert_eq!(ask(request().path(path)).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
