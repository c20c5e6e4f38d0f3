//! The embedded files, by path.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// A file to be served.
#[derive(Clone, Debug)]
pub struct Asset {
    path: String,
    etag: HeaderValue,
    body: &'static str,
    immutable: bool,
}

impl Asset {
    /// Returns the path, from the root: `/session-resume.js`, or with the content's hash in it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the entity tag, with `W/` and its quotes. Weak, because what stands around the route may compress
    /// the file and keep the tag.
    pub fn etag(&self) -> &HeaderValue {
        &self.etag
    }

    /// Returns the content.
    pub fn body(&self) -> &'static str {
        self.body
    }

    /// Returns the media type.
    pub fn content_type(&self) -> &'static str {
        "text/javascript; charset=utf-8"
    }

    /// Returns whether this path will never have another content.
    pub fn is_immutable(&self) -> bool {
        self.immutable
    }

    /// Returns the value for `Cache-Control`.
    pub fn cache_control(&self) -> &'static str {
        if self.immutable { "public, max-age=31536000, immutable" } else { "no-cache" }
    }

    /// Answers a `GET` or `HEAD`.
    ///
    /// `if_none_match` is the request's header: 304 when the browser has the file already.
    pub fn respond(&self, if_none_match: Option<&HeaderValue>) -> Response<Bytes> {
        let known = if_none_match.is_some_and(|list| matches(list, &self.etag));
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache_control()));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        *response.body_mut() = Bytes::from_static(self.body.as_bytes());
        response
    }
}

/// Returns every file under each of its two paths: the plain one and the one with its hash.
pub fn assets() -> impl Iterator<Item = &'static Asset> {
    ASSETS.iter()
}

/// Returns the file at `path`.
pub fn asset(path: &str) -> Option<&'static Asset> {
    assets().find(|asset| asset.path == path)
}

/// Returns the path with the content's hash for a file's name, `session-resume`, `session-resume-websocket` or
/// `session-resume-notify`: what a page written by a template should import.
pub fn path_of(name: &str) -> Option<&'static str> {
    let plain = asset(&format!("/{name}.js"))?;
    let hashed = assets().find(|asset| asset.immutable && asset.etag == plain.etag)?;
    Some(&hashed.path)
}

/// Answers a `GET` or `HEAD`, or returns `None` when no file has that path. See [`Asset::respond`].
pub fn respond(path: &str, if_none_match: Option<&HeaderValue>) -> Option<Response<Bytes>> {
    Some(asset(path)?.respond(if_none_match))
}

/// Whether a list of entity tags has this one. Compared weakly, as RFC 9110 says for this header.
fn matches(list: &HeaderValue, etag: &HeaderValue) -> bool {
    let opaque = |tag: &'_ str| tag.trim().trim_start_matches("W/").to_owned();
    let (Ok(list), Ok(etag)) = (list.to_str(), etag.to_str()) else {
        return false;
    };
    list.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    FILES
        .iter()
        .flat_map(|&(name, body)| {
            let hash = format!("{:016x}", hash(body.as_bytes()));
            let asset = |path, immutable| Asset {
                path,
                etag: HeaderValue::try_from(format!("W/\"{hash}\"")).expect("hexadecimal digits"),
                body,
                immutable,
            };
            [asset(format!("/{name}.js"), false), asset(format!("/{name}-{hash}.js"), true)]
        })
        .collect()
});

const FILES: [(&str, &str); 3] = [
    ("session-resume", include_str!("../dist/session-resume.js")),
    ("session-resume-websocket", include_str!("../dist/session-resume-websocket.js")),
    ("session-resume-notify", include_str!("../dist/session-resume-notify.js")),
];

/// FNV-1a: tells versions apart, needs no dependency, and guards against nobody.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weak: what compresses a response keeps the tag.
    fn hash_of(asset: &Asset) -> &str {
        let tag = asset.etag().to_str().unwrap().strip_prefix("W/\"").unwrap();
        tag.strip_suffix('"').unwrap()
    }

    #[test]
    fn every_file_has_a_plain_and_a_lasting_path() {
        let paths: Vec<_> = assets().map(|asset| (asset.path(), asset.is_immutable())).collect();
        assert_eq!(paths.len(), 6);
        for (name, body) in FILES {
            let plain = asset(&format!("/{name}.js")).unwrap();
            let lasting = asset(path_of(name).unwrap()).unwrap();
            assert!(!plain.is_immutable() && lasting.is_immutable());
            assert_eq!((plain.body(), lasting.body()), (body, body));
            assert!(lasting.path().starts_with(&format!("/{name}-")));
            assert!(lasting.path().contains(hash_of(plain)));
        }
    }

    #[test]
    fn the_socket_is_in_two_files_and_the_banner_in_another() {
        let body = |path| asset(path).unwrap().body();
        assert!(body("/session-resume.js").contains("ResumableSocket"));
        assert!(body("/session-resume-websocket.js").contains("ResumableSocket"));
        assert!(body("/session-resume-notify.js").contains("session-resume-status"));
    }

    #[test]
    fn plain_paths_are_revalidated_and_hashed_ones_kept() {
        let cache = |path| {
            let response = respond(path, None).unwrap();
            response.headers()[header::CACHE_CONTROL].clone()
        };
        assert_eq!(cache("/session-resume.js"), "no-cache");
        assert_eq!(
            cache(path_of("session-resume").unwrap()),
            "public, max-age=31536000, immutable"
        );
    }

    #[test]
    fn a_known_entity_tag_is_answered_304_without_a_body() {
        let file = asset("/session-resume.js").unwrap();
        let (etag, hash) = (file.etag().to_str().unwrap(), hash_of(file));
        let rows = [
            (etag.to_owned(), 304),
            (format!("\"other\", {etag}"), 304),
            (format!("\"{hash}\""), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (hash.to_owned(), 200),
        ];
        for (value, status) in rows {
            let value = HeaderValue::from_str(&value).unwrap();
            let response = respond("/session-resume.js", Some(&value)).unwrap();
            assert_eq!(response.status(), status, "{value:?}");
            assert_eq!(response.body().is_empty(), status == 304, "{value:?}");
            assert_eq!(response.headers()[header::ETAG], etag);
        }
    }

    #[test]
    fn other_paths_are_not_ours() {
        for path in ["/", "", "session-resume.js", "/session-resume-0.js", "/../Cargo.toml"] {
            assert!(respond(path, None).is_none(), "{path}");
        }
    }
}
