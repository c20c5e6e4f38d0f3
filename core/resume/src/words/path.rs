//! One session, one path: two rooms (`/ws/{room}`) must not meet in one session because their application has chosen
//! no key.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::SessionId;

/// A path, as the layer or the framework has it: percent-encoded and literal, without the query. It is a digest,
/// because a client may send a path of any length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PathDigest([u8; 16]);

impl PathDigest {
    pub(crate) fn of(path: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(path).into();
        let (start, _) = digest.split_first_chunk().expect("half of a digest is shorter than one");
        Self(*start)
    }

    /// Returns the mark of this path in a session.
    ///
    /// A mark is short, so it must be another one in each session. Else a client that chooses the names of two rooms
    /// could look for two with one mark.
    fn mark_in(self, session: SessionId) -> PathMark {
        let digest = Sha256::new_with_prefix(session.as_uuid()).chain_update(self.0).finalize();
        let digest: [u8; 32] = digest.into();
        let (start, _) = digest.split_first_chunk().expect("a mark is shorter than a digest");
        PathMark(*start)
    }
}

/// What a session remembers of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PathMark([u8; 8]);

/// On which path the handler of a session was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum HandlerPath {
    /// No handler was started by an upgrade yet, or its path is not compared.
    #[default]
    None,
    /// An upgrade under way will start it; if that fails, the session is open to any path again.
    Claimed(PathMark),
    /// It was started there, in this process or in one before.
    Fixed(PathMark),
}

impl HandlerPath {
    /// Returns what the session's record says.
    pub(crate) fn stored(self) -> Option<PathMark> {
        match self {
            Self::Fixed(mark) => Some(mark),
            Self::None | Self::Claimed(_) => None,
        }
    }

    /// Returns what a record says, for the session that is made of it.
    pub(crate) fn restored(stored: Option<PathMark>) -> Self {
        stored.map_or(Self::None, Self::Fixed)
    }

    /// The upgrade that has claimed it is over, and the handler does not run.
    pub(crate) fn release(&mut self) {
        if let Self::Claimed(_) = self {
            *self = Self::None;
        }
    }
}

/// The path of an upgrade, and what it says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpgradePath {
    /// `None` where paths are not compared: the application has chosen the key.
    path: Option<PathDigest>,
    /// The route serves its session whatever the path.
    any: bool,
}

impl UpgradePath {
    pub(crate) fn new(path: Option<PathDigest>) -> Self {
        Self { path, any: false }
    }

    /// The framework knows better than the layer, for a router outside the layer took a part of the path away.
    pub(crate) fn set(&mut self, path: &str) {
        if let Some(known) = &mut self.path {
            *known = PathDigest::of(path);
        }
    }

    pub(crate) fn allow_any(&mut self) {
        self.any = true;
    }

    /// Whether a session whose handler was started, or will be, at `handler` is open to this upgrade.
    pub(crate) fn may_enter(&self, handler: HandlerPath, session: SessionId) -> bool {
        match (handler, self.path) {
            (HandlerPath::Claimed(mark) | HandlerPath::Fixed(mark), Some(path)) if !self.any => {
                path.mark_in(session) == mark
            }
            _ => true,
        }
    }

    /// This upgrade will start the handler, unless another one is faster.
    pub(crate) fn claim(&self, handler: &mut HandlerPath, session: SessionId) {
        if let (HandlerPath::None, Some(path)) = (*handler, self.path) {
            *handler = HandlerPath::Claimed(path.mark_in(session));
        }
    }

    /// This upgrade starts the handler. A session that was restored keeps the path of its first start.
    pub(crate) fn start(&self, handler: &mut HandlerPath, session: SessionId) {
        if let (HandlerPath::None | HandlerPath::Claimed(_), Some(path)) = (*handler, self.path) {
            *handler = HandlerPath::Fixed(path.mark_in(session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> UpgradePath {
        UpgradePath::new(Some(PathDigest::of(path)))
    }

    fn anywhere(path: &str) -> UpgradePath {
        let mut upgrade = at(path);
        upgrade.allow_any();
        upgrade
    }

    #[test]
    fn an_upgrade_enters_on_the_path_of_the_one_that_started_the_handler() {
        let session = SessionId::random();
        let not_asked = UpgradePath::new(None);
        let rows = [
            (at("/ws/a"), at("/ws/a"), true),
            (at("/ws/a"), at("/ws/b"), false),
            (at("/ws/a"), at("/ws/a/"), false),
            (at("/ws/a"), at("/ws/%61"), false),
            (at("/ws/a"), at("/ws/A"), false),
            (at("/ws/a"), anywhere("/ws/b"), true),
            // The first upgrade could have come on any path: that says nothing of the upgrades that come later.
            (anywhere("/ws/a"), at("/ws/b"), false),
            (anywhere("/ws/a"), at("/ws/a"), true),
            (not_asked, at("/ws/b"), true),
            (at("/ws/a"), not_asked, true),
        ];
        for (first, next, enters) in rows {
            let mut handler = HandlerPath::None;
            assert!(first.may_enter(handler, session), "{first:?}");
            first.claim(&mut handler, session);
            assert_eq!(next.may_enter(handler, session), enters, "under way: {first:?}, {next:?}");
            assert_eq!(handler.stored(), None, "{first:?} has started nothing yet");
            first.start(&mut handler, session);
            assert_eq!(next.may_enter(handler, session), enters, "{first:?}, {next:?}");
            let restored = HandlerPath::restored(handler.stored());
            assert_eq!(next.may_enter(restored, session), enters, "stored: {first:?}, {next:?}");
        }
    }

    #[test]
    fn only_a_start_fixes_the_path() {
        let session = SessionId::random();
        let mut handler = HandlerPath::None;
        at("/a").claim(&mut handler, session);
        handler.release();
        assert_eq!(handler, HandlerPath::None, "the upgrade has failed");
        at("/a").claim(&mut handler, session);
        at("/b").start(&mut handler, session);
        assert!(at("/b").may_enter(handler, session), "another one was faster");
        let fixed = handler;
        handler.release();
        anywhere("/c").claim(&mut handler, session);
        anywhere("/c").start(&mut handler, session);
        assert_eq!(handler, fixed);
    }

    #[test]
    fn the_framework_says_which_path_it_is_where_that_is_asked() {
        let session = SessionId::random();
        let mut upgrade = at("/live");
        upgrade.set("/v2/live");
        let mut handler = HandlerPath::None;
        upgrade.start(&mut handler, session);
        assert!(at("/v2/live").may_enter(handler, session));
        assert!(!at("/live").may_enter(handler, session));
        let mut not_asked = UpgradePath::new(None);
        not_asked.set("/live");
        assert!(not_asked.may_enter(handler, session));
    }

    #[test]
    fn a_path_has_another_mark_in_each_session() {
        let path = PathDigest::of("/ws/a");
        let (one, other) = (SessionId::random(), SessionId::random());
        assert_eq!(path.mark_in(one), path.mark_in(one));
        assert_ne!(path.mark_in(one), path.mark_in(other));
    }
}
