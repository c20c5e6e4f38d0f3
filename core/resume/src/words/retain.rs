//! What a session keeps after its clients have acknowledged it.

use session_resume_proto::session::{self, Retention};

/// What a session keeps of messages that each of its clients has acknowledged, as a setting of the layer
/// ([`with_retention`](crate::SessionResume::with_retention)).
///
/// By default a session forgets a message as soon as each client that matters has acknowledged it. With retention, a
/// client that did not matter (another tab took over from it, others have pushed it out, or it was away while the outbox
/// was full) and that comes back with its cursor gets what it has missed, where it would otherwise be told a gap.
///
/// What is kept does not count towards [`Limits::outbox_messages`](crate::Limits::outbox_messages) and
/// [`Limits::outbox_bytes`](crate::Limits::outbox_bytes), and never makes a `send` wait. What a client that comes back has
/// missed does count from then on, and only as much is given back as these limits have room for.
///
/// Not kept are messages [for one client](crate::Session::send_to), and those with a
/// [time to live](crate::Outgoing::with_time_to_live). A client that may have missed one of these is told a gap. Of a
/// [slot](crate::Session::send_latest) those values are kept that clients have acknowledged.
///
/// # Memory
///
/// Each message takes its length and about 48 bytes, in each session: 100 messages of 200 bytes take 25 KB. 100,000 such
/// sessions take 2.5 GB. By default nothing is kept, and nothing is taken.
///
/// # Example
///
/// ```
/// use session_resume::{Retain, SessionResume};
///
/// // A tab from which another one has taken over may come back and has missed nothing, up to 200 messages or 64 KiB.
/// let retain = Retain::last(200).with_bytes(64 << 10);
/// let resume = SessionResume::new().with_retention(retain);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retain {
    what: What,
    messages: usize,
    bytes: usize,
    stored: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Nothing,
    Last(usize),
    SinceCheckpoint,
    UntilDone,
}

impl Retain {
    /// Keeps nothing. This is the default.
    pub fn nothing() -> Self {
        Self::within_defaults(What::Nothing)
    }

    /// Keeps the last `count` of the messages that clients have acknowledged.
    ///
    /// `count` may be above the default of [`Self::with_messages`].
    pub fn last(count: usize) -> Self {
        let default = Self::within_defaults(What::Last(count));
        Self { messages: default.messages.max(count), ..default }
    }

    /// Keeps the last checkpoint ([`Session::send_checkpoint`](crate::Session::send_checkpoint)) and what was sent
    /// after it. A new checkpoint releases what lies before it. Before the first one, and after
    /// [`Session::clear_checkpoint`](crate::Session::clear_checkpoint), nothing is kept.
    ///
    /// If what was sent since the checkpoint is over a bound, the newest part of it is kept.
    pub fn since_checkpoint() -> Self {
        Self::within_defaults(What::SinceCheckpoint)
    }

    /// Keeps all that the session sends, until it ends.
    ///
    /// If that is over a bound, the newest part of it is kept.
    pub fn until_done() -> Self {
        Self::within_defaults(What::UntilDone)
    }

    /// Sets how many messages a session keeps at most. Beyond: the oldest go. Default 1,024.
    #[must_use]
    pub fn with_messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets how many bytes of messages a session keeps at most, 48 for each included. Beyond: the oldest go, a single
    /// one that is longer, too. Default 1 MiB.
    #[must_use]
    pub fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Writes what is kept to the store, too, with the outbox. Without this it is gone after a restart, a crash, or when
    /// the session leaves memory.
    ///
    /// The outbox is in each record under [`Durability::Exact`](crate::Durability::Exact), and otherwise in the last
    /// record of a session that drains or leaves memory. Each record is written as a whole, with all that is kept:
    /// this is sensible up to about 64 KiB.
    #[must_use]
    pub fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    fn within_defaults(what: What) -> Self {
        let Retention { messages, bytes, .. } = Retention::default();
        Self { what, messages, bytes, stored: false }
    }

    /// As the rules have it.
    pub(crate) fn rules(self) -> Retention {
        let mut rules = Retention::default();
        rules.messages = self.messages;
        rules.bytes = self.bytes;
        rules.stored = self.stored;
        rules.retain = match self.what {
            What::Nothing => session::Retain::Nothing,
            What::SinceCheckpoint => session::Retain::SinceCheckpoint,
            What::UntilDone => session::Retain::Newest,
            What::Last(count) => {
                rules.messages = rules.messages.min(count);
                session::Retain::Newest
            }
        };
        rules
    }
}

impl Default for Retain {
    fn default() -> Self {
        Self::nothing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_bound_counts() {
        for (retain, messages) in [
            (Retain::last(5), 5),
            (Retain::last(5000), 5000),
            (Retain::last(5000).with_messages(70), 70),
            (Retain::last(5).with_messages(70), 5),
            (Retain::until_done(), 1024),
            (Retain::since_checkpoint().with_messages(70), 70),
        ] {
            assert_eq!(retain.rules().messages, messages, "{retain:?}");
            assert_ne!(retain.rules().retain, session::Retain::Nothing);
        }
        assert_eq!(Retain::default().rules(), Retention::default());
    }
}
