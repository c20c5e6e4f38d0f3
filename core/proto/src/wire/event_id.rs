//! The `id` of an event for a reader that speaks no protocol of ours: what `Last-Event-ID` brings back.

use std::fmt;

use super::offer::integer;
use crate::{AttachmentNumber, Position, WireId};

/// Where a plain reader of events is: `<epoch>.<position>.<n>`.
///
/// A browser's `EventSource` keeps the `id` of the last event, and sends it as `Last-Event-ID` when it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EventId {
    /// The epoch that the position is of.
    pub epoch: WireId,
    /// The position of the next message that the reader wants.
    pub position: Position,
    /// The number of the turn on which the event was sent.
    pub attachment: AttachmentNumber,
}

impl EventId {
    /// Reads the text of an event's `id`; `None` if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let epoch = WireId::parse(parts.next()?)?;
        let position = Position::new(integer(parts.next()?)?);
        let attachment = AttachmentNumber::new(integer(parts.next()?)?);
        parts.next().is_none().then_some(Self { epoch, position, attachment })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.position, self.attachment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for text in ["e.0.1", "0123456789abcdef-1.9007199254740991.7"] {
            assert_eq!(EventId::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "e",
            "e.1",
            "e.1.2.3",
            "e.01.2",
            "e.-1.2",
            "e.+1.2",
            "e.1.",
            ".1.2",
            "e e.1.2",
            "e.9007199254740992.1",
            "e.1.99999999999999999999",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}
