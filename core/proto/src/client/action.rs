use crate::wire::{Close, Offer};

/// Counts a client's transports, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransportNumber(pub(super) u64);

/// Random bytes for one wait and one client id.
pub type Random = [u8; 32];

/// What the caller must do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Call [`Client::handle_random`](super::Client::handle_random) with fresh bytes of the operating system.
    ///
    /// Fresh, not from a seed: a copied program must not choose the same id as its original.
    Randomize,
    /// Call [`Client::handle_initial`](super::Client::handle_initial) with the messages that go to the session before the
    /// queue. Only with another [`Meeting`](super::Meeting) than `AtOnce`.
    Initial,
    /// Open a transport with this offer and with [`SUBPROTOCOL`](crate::wire::SUBPROTOCOL).
    Connect {
        /// Its number.
        transport: TransportNumber,
        /// What to offer.
        offer: Offer,
    },
    /// End this transport and report nothing more of it.
    Close {
        /// Its number.
        transport: TransportNumber,
        /// What to say; `None`: it is dead, or not there yet, just drop it.
        close: Option<Close>,
    },
}
