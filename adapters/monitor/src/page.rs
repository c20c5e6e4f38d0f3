//! The page, its script and its style.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};

use crate::answer;

const PAGE: &str = include_str!("../page/monitor.html");
const SCRIPT: &str = include_str!("../page/monitor.js");
const STYLE: &str = include_str!("../page/monitor.css");

/// Where the page has the beginning of its script's and its style's addresses.
const BASE: &str = "{{base}}";

/// Our own files and our own JSON, and no inline script or style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the answer with the file at `path`, which has no slash at its ends.
pub(crate) fn file(path: &str, parts: &Parts) -> Option<Response<Bytes>> {
    let (media_type, body) = match path {
        "" => return Some(page(parts)),
        "monitor.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "monitor.css" => ("text/css; charset=utf-8", STYLE),
        _ => return None,
    };
    Some(answer::with(StatusCode::OK, media_type, Bytes::from_static(body.as_bytes())))
}

fn page(parts: &Parts) -> Response<Bytes> {
    let page = PAGE.replace(BASE, &base(parts.uri.path()));
    let mut response = answer::with(StatusCode::OK, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    response
}

/// Returns what leads from the page at `path` to what is below the monitor's mount.
///
/// A browser resolves relative addresses against the path without its last step. Only that step is used: what is before it may
/// be another one to the browser, where a proxy stands in between.
fn base(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((_, "")) | None => String::new(),
        Some((_, last)) => format!("./{}/", escape(last)),
    }
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, char| {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_from_wherever_the_page_is() {
        let rows = [
            ("/", ""),
            ("/monitor/", ""),
            ("/ops/monitor/", ""),
            ("/monitor", "./monitor/"),
            ("/ops/monitor", "./monitor/"),
            // Not a scheme, and no end of the attribute.
            ("/javascript:alert(1)", "./javascript:alert(1)/"),
            ("/a\"><script>'&", "./a&quot;&gt;&lt;script&gt;&#39;&amp;/"),
        ];
        for (path, expected) in rows {
            assert_eq!(base(path), expected, "{path}");
        }
    }

    #[test]
    fn the_page_stands_on_its_own() {
        assert_eq!(PAGE.matches(BASE).count(), 2);
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style="));
        assert!(!PAGE.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')));
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=").count());
        for text in [PAGE, SCRIPT, STYLE] {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("//www") && !elsewhere.contains("://"));
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    /// Of the ways in which a script makes HTML or code of a text, it has none.
    #[test]
    fn what_the_server_says_is_text_to_the_script() {
        let makes_more_of_text = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "setHTML",
            "DOMParser",
            "write(",
            "createContextualFragment",
            "eval(",
            "Function(",
            "srcdoc",
            "import(",
            "javascript:",
        ];
        for way in makes_more_of_text {
            assert!(!SCRIPT.contains(way), "{way}");
        }
    }
}
