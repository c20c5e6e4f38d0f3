use std::collections::VecDeque;

use crate::{
    Message,
    client::{Limits, SendError},
    wire::{ProtocolError, Window, escape},
};

/// The application's messages, kept until the server has acknowledged them.
///
/// Messages are numbered by the session that receives them: `base ≤ next ≤ sent ≤ base + queue.len()`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Outbound {
    queue: VecDeque<Message>,
    /// The payload bytes of `queue`.
    bytes: usize,
    /// The number of the first message in `queue`: all before are acknowledged.
    base: u64,
    /// The number of the message to transmit next; behind `sent` while messages go out again.
    next: u64,
    /// The first number that no transport has had.
    sent: u64,
    /// The payload bytes of `base..next`.
    under_way: u64,
    window: Window,
    /// The longest message that the server takes, as the last hello has told.
    limit: Option<u64>,
    /// Messages from `base` on that the server has dropped; the application knows.
    dropped: Vec<u64>,
}

/// The server's count does not fit this client's.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Mismatch {
    /// More than was sent: another client uses this client's id.
    Copy,
    /// Fewer than were acknowledged.
    Broken(ProtocolError),
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            base: 0,
            next: 0,
            sent: 0,
            under_way: 0,
            window: Window { messages: 0, bytes: 0 },
            limit: None,
            dropped: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, message: Message, limits: &Limits) -> Result<(), SendError> {
        if self.limit.is_some_and(|limit| bytes(&message) > limit) {
            return Err(SendError::TooBig);
        }
        limits.admit(&message, self.queue.len(), self.bytes)?;
        self.bytes += message.len();
        self.queue.push_back(message);
        Ok(())
    }

    /// Puts messages before all that was never sent, and returns those that are too long.
    pub(super) fn push_first(&mut self, messages: Vec<Message>, limits: &Limits) -> Vec<Message> {
        let fits = |message: &Message| {
            message.len() <= limits.message
                && self.limit.is_none_or(|limit| bytes(message) <= limit)
        };
        let (first, too_big): (Vec<_>, Vec<_>) = messages.into_iter().partition(fits);
        let unsent = self.queue.split_off(self.sent_messages());
        self.bytes += first.iter().map(Message::len).sum::<usize>();
        self.queue.extend(first.into_iter().chain(unsent));
        too_big
    }

    /// Takes out what was never sent.
    pub(super) fn take_unsent(&mut self) -> Vec<Message> {
        let unsent = self.queue.split_off(self.sent_messages());
        self.bytes -= unsent.iter().map(Message::len).sum::<usize>();
        unsent.into()
    }

    /// Returns what was never sent.
    pub(super) fn unsent(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.queue.range(self.sent_messages()..)
    }

    /// Goes on in the session that was offered, which has accepted all before `received`: all from there on is sent,
    /// what was sent before is replayed. Returns how many messages were acknowledged and are taken back.
    ///
    /// In another epoch than the offered one, that may be fewer than were acknowledged: the server's store has
    /// gone back in time. What is kept here was sent later than all that the session has now.
    pub(super) fn replay_from(
        &mut self,
        received: u64,
        window: Window,
        same_epoch: bool,
    ) -> Result<u64, Mismatch> {
        if received > self.sent {
            return Err(Mismatch::Copy);
        }
        if received < self.base {
            if same_epoch {
                return Err(Mismatch::Broken(ProtocolError::Unexpected));
            }
            let taken_back = self.base - received;
            // The client was told of the drop: the message does not come again under another number.
            let mut told = std::mem::take(&mut self.dropped);
            told.sort_unstable();
            for number in told.into_iter().rev() {
                let at = usize::try_from(number - self.base).expect("what was sent is in memory");
                self.bytes -= self.queue.remove(at).map_or(0, |message| message.len());
            }
            self.restart(received, window);
            return Ok(taken_back);
        }
        self.next = received;
        self.window = window;
        // Accepted is not acknowledged: it stays under way, and here, until an ack.
        self.under_way = self.queue.iter().take(self.under_way_messages()).map(bytes).sum();
        Ok(0)
    }

    /// Takes out what is to be transmitted and is longer than the server takes; it does not count any more. To be
    /// called after [`Self::replay_from`] or [`Self::restart`].
    pub(super) fn limit_to(&mut self, limit: Option<u64>) -> Vec<Message> {
        self.limit = limit;
        let mut too_big = Vec::new();
        let mut at = self.under_way_messages();
        while let (Some(limit), Some(message)) = (limit, self.queue.get(at)) {
            if bytes(message) <= limit {
                at += 1;
                continue;
            }
            if at < self.sent_messages() {
                self.sent -= 1;
            }
            let message = self.queue.remove(at).expect("it was there");
            self.bytes -= message.len();
            too_big.push(message);
        }
        too_big
    }

    /// Returns the number of the message to transmit next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes out the message to transmit next; it does not count any more. To be called after
    /// [`Self::replay_from`]: the session has accepted all before it and none from it on.
    pub(super) fn give_up_next(&mut self) -> Option<Message> {
        let message = self.queue.remove(self.under_way_messages())?;
        self.bytes -= message.len();
        self.sent -= 1;
        Some(message)
    }

    /// Sends all that is kept as new messages of a session that counts from `received`. In another session
    /// than before, to be called after [`Self::forget`].
    pub(super) fn restart(&mut self, received: u64, window: Window) {
        self.base = received;
        self.next = received;
        self.sent = received;
        self.dropped.clear();
        self.under_way = 0;
        self.window = window;
    }

    /// The server has dropped the message with this number; returns it if that is news.
    pub(super) fn drop_message(&mut self, number: u64) -> Result<Option<Message>, ProtocolError> {
        if number >= self.next {
            return Err(ProtocolError::Unexpected);
        }
        let Some(at) = number.checked_sub(self.base).filter(|_| !self.dropped.contains(&number))
        else {
            return Ok(None);
        };
        self.dropped.push(number);
        let at = usize::try_from(at).expect("what was sent is in memory");
        Ok(self.queue.get(at).cloned())
    }

    /// Lets go of everything that was sent, and returns it: it is in doubt. What was dropped is not.
    ///
    /// What was queued behind and never sent is not in doubt; it goes to the next session.
    pub(super) fn forget(&mut self) -> Vec<Message> {
        let count = self.sent_messages();
        let first = self.base;
        self.base = self.sent;
        self.next = self.sent;
        self.under_way = 0;
        let released = self.release(count);
        let dropped = std::mem::take(&mut self.dropped);
        let doubted = (first..).zip(released).filter(|(number, _)| !dropped.contains(number));
        doubted.map(|(_, message)| message).collect()
    }

    /// The session is over: lets go of the messages that it took, and returns all others.
    pub(super) fn finish(&mut self, taken: u64) -> Vec<Message> {
        // An impossible count does not matter any more: the session is over.
        let taken = taken.clamp(self.base, self.next) - self.base;
        self.release(usize::try_from(taken).expect("what was sent is in memory"));
        self.clear()
    }

    /// Lets go of everything and returns it.
    pub(super) fn clear(&mut self) -> Vec<Message> {
        self.base = self.sent;
        self.next = self.sent;
        self.under_way = 0;
        self.release(self.queue.len())
    }

    /// Lets go of all before `count`; tells whether that was news.
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<bool, ProtocolError> {
        if count > self.next {
            return Err(ProtocolError::OverAck);
        }
        let Some(fresh) = count.checked_sub(self.base).filter(|&fresh| fresh > 0) else {
            return Ok(false);
        };
        let fresh = usize::try_from(fresh).expect("what was sent is in memory");
        self.base = count;
        self.dropped.retain(|&number| number >= count);
        let released = self.release(fresh);
        self.under_way -= released.iter().map(bytes).sum::<u64>();
        Ok(true)
    }

    /// Returns the next message for the wire, if the window has room for it.
    pub(super) fn poll_transmit(&mut self) -> Option<Message> {
        let under_way = self.under_way_messages();
        let message = self.queue.get(under_way)?;
        let fits = (under_way as u64) < self.window.messages
            && self.under_way + bytes(message) <= self.window.bytes;
        // A message longer than the whole window goes alone.
        if under_way > 0 && !fits {
            return None;
        }
        let message = message.clone();
        self.under_way += bytes(&message);
        self.next += 1;
        self.sent = self.sent.max(self.next);
        Some(escape(message))
    }

    /// Returns the payload bytes that this transport has had and that are not acknowledged, or `None` if there is no
    /// such message.
    pub(super) fn under_way(&self) -> Option<u64> {
        (self.next > self.base).then_some(self.under_way)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn under_way_messages(&self) -> usize {
        usize::try_from(self.next - self.base).expect("what is under way is in memory")
    }

    fn sent_messages(&self) -> usize {
        usize::try_from(self.sent - self.base).expect("what was sent is in memory")
    }

    fn release(&mut self, count: usize) -> Vec<Message> {
        let released: Vec<_> = self.queue.drain(..count).collect();
        self.bytes -= released.iter().map(Message::len).sum::<usize>();
        released
    }
}

fn bytes(message: &Message) -> u64 {
    message.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { messages: 3, bytes: 10 };

    fn outbound(lengths: &[usize]) -> Outbound {
        let mut outbound = Outbound::new();
        for &length in lengths {
            let message = Message::binary(vec![0; length]);
            outbound.push(message, &Limits::default()).unwrap();
        }
        outbound.restart(0, WINDOW);
        outbound
    }

    fn transmit_all(outbound: &mut Outbound) -> Vec<usize> {
        std::iter::from_fn(|| outbound.poll_transmit()).map(|message| message.len()).collect()
    }

    #[test]
    fn the_window_holds_back_by_messages_and_by_bytes() {
        for (lengths, expected) in [
            (vec![1, 1, 1, 1], vec![1, 1, 1]),
            (vec![6, 4, 1], vec![6, 4]),
            (vec![11, 0], vec![11]),
            (vec![1, 11], vec![1]),
        ] {
            let mut outbound = outbound(&lengths);
            assert_eq!(transmit_all(&mut outbound), expected, "{lengths:?}");
        }
    }

    #[test]
    fn an_ack_opens_the_window_and_only_an_ack_lets_go() {
        let mut outbound = outbound(&[6, 4, 5, 5]);
        assert_eq!(transmit_all(&mut outbound), [6, 4]);
        assert_eq!(outbound.acknowledge(1), Ok(true));
        assert_eq!(transmit_all(&mut outbound), [5]);
        outbound.replay_from(3, WINDOW, true).unwrap();
        assert_eq!(outbound.len(), 3, "accepted is not acknowledged");
        assert!(transmit_all(&mut outbound).is_empty(), "and still under way");
        outbound.replay_from(1, WINDOW, true).unwrap();
        assert_eq!(transmit_all(&mut outbound), [4, 5]);
    }

    #[test]
    fn counts_that_cannot_be_are_told_apart() {
        let mut outbound = outbound(&[1, 1, 1, 1, 1]);
        assert_eq!(transmit_all(&mut outbound).len(), 3);
        assert_eq!(outbound.acknowledge(4), Err(ProtocolError::OverAck));
        assert_eq!(outbound.acknowledge(2), Ok(true));
        assert_eq!(outbound.acknowledge(2), Ok(false));
        assert_eq!(outbound.acknowledge(1), Ok(false));
        assert_eq!(
            outbound.replay_from(1, WINDOW, true),
            Err(Mismatch::Broken(ProtocolError::Unexpected))
        );
        assert_eq!(transmit_all(&mut outbound).len(), 2);
        assert_eq!(outbound.replay_from(6, WINDOW, true), Err(Mismatch::Copy));
        // Sent before, not yet again: an ack of it is an ack of what this transport never had.
        outbound.replay_from(3, WINDOW, true).unwrap();
        assert_eq!(outbound.acknowledge(4), Err(ProtocolError::OverAck));
        outbound.replay_from(5, WINDOW, true).unwrap();
    }

    #[test]
    fn what_the_server_does_not_take_is_taken_out_where_it_is_not_accepted() {
        let lengths =
            |messages: Vec<Message>| messages.iter().map(Message::len).collect::<Vec<_>>();
        let mut outbound = outbound(&[9, 1, 8, 2, 7, 3]);
        outbound.window = Window { messages: 4, bytes: 100 };
        assert_eq!(transmit_all(&mut outbound), [9, 1, 8, 2]);
        // The first one was accepted; the third was sent, and the fifth was not.
        outbound.replay_from(1, Window { messages: 9, bytes: 100 }, true).unwrap();
        assert_eq!(lengths(outbound.limit_to(Some(6))), [8, 7]);
        assert_eq!((outbound.sent, outbound.bytes), (3, 9 + 1 + 2 + 3));
        assert_eq!(transmit_all(&mut outbound), [1, 2, 3]);
        assert_eq!(outbound.acknowledge(4), Ok(true));
        assert!(outbound.is_empty());
        let limits = Limits::default();
        assert_eq!(outbound.push(vec![0; 7].into(), &limits), Err(SendError::TooBig));
        assert_eq!(outbound.push(vec![0; 6].into(), &limits), Ok(()));
        assert!(outbound.limit_to(None).is_empty());
        assert_eq!(outbound.push(vec![0; 7].into(), &limits), Ok(()));
    }

    #[test]
    fn only_what_was_sent_is_in_doubt() {
        let mut outbound = outbound(&[1, 2, 3, 4]);
        transmit_all(&mut outbound);
        outbound.acknowledge(1).unwrap();
        let doubt = outbound.forget();
        assert_eq!(doubt.iter().map(Message::len).collect::<Vec<_>>(), [2, 3]);
        assert!(outbound.forget().is_empty());
        outbound.restart(40, WINDOW);
        assert_eq!(transmit_all(&mut outbound), [4]);
        assert_eq!(outbound.acknowledge(41), Ok(true));
        assert!(outbound.is_empty());
    }
}
