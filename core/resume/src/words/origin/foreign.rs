use std::sync::Mutex;

use http::{HeaderMap, header};

use super::target;
use crate::words::request::RequestView;

/// The log names at most this many origins: any client can send any origin.
const NAMED: usize = 32;

/// The log shows this many characters of an origin or host.
const SHOWN: usize = 128;

/// The foreign origins that the log has named, each once.
#[derive(Default)]
pub(crate) struct ForeignOrigins(Mutex<Vec<Box<str>>>);

impl ForeignOrigins {
    /// An upgrade was refused for its origin.
    #[cold]
    pub(crate) fn tell(&self, req: RequestView<'_>) {
        let origin = shown(req.headers());
        let mut named = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_news = named.len() < NAMED && !named.iter().any(|known| **known == *origin);
        if is_news {
            named.push(origin.clone().into());
        }
        let is_last = is_news && named.len() == NAMED;
        drop(named);
        if !is_news {
            tracing::debug!(?origin, "upgrade refused: foreign origin");
            return;
        }
        let sent_to = match target(req.uri(), req.headers()) {
            Some((host, Some(port))) => format!("{}:{port}", cut(host)),
            Some((host, None)) => cut(host),
            None => "no host that can be read".to_owned(),
        };
        tracing::warn!(
            ?origin,
            sent_to,
            https = req.is_https(),
            "upgrade refused: foreign origin. If the page is yours: with_allowed_origins(AllowedOrigins::same_origin().allow(..)) \
             allows its origin; behind a proxy, let it pass Host on with its port. Told once for each origin"
        );
        if is_last {
            tracing::warn!(
                "{NAMED} foreign origins have been named: more are not (but at level debug)"
            );
        }
    }
}

fn shown(headers: &HeaderMap) -> String {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => "none".to_owned(),
        (Some(_), Some(_)) => "several".to_owned(),
        (Some(origin), None) => cut(&String::from_utf8_lossy(origin.as_bytes())),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
