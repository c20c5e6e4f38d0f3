//! One connection, as the network sees it.

use session_resume_proto::{
    AttachmentNumber, Moment,
    client::TransportNumber,
    session::{ClientName, Incoming},
    wire::Offer,
};

use crate::{
    direction::{Down, Pipe, Up},
    tunnel::Tunnel,
};

/// What the handler is told of a client that is not a program.
pub(crate) const STRANGER: u32 = u32::MAX;

/// The server's end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerEnd {
    /// The upgrade is still on its way.
    Coming,
    Turn(AttachmentNumber),
    /// A turn was refused. If the client was told `superseded`: its name, and the newest attachment
    /// then.
    Refused(Option<(ClientName, AttachmentNumber)>),
    Gone,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    /// `None`: no program listens at the client's end.
    pub(crate) program: Option<(usize, TransportNumber)>,
    pub(crate) name: ClientName,
    pub(crate) info: u32,
    pub(crate) offer: Offer,
    pub(crate) client_end: bool,
    pub(crate) server_end: ServerEnd,
    pub(crate) up: Pipe<Up>,
    pub(crate) down: Pipe<Down>,
    /// What is between the two ends of it over HTTP; what is in `up` and `down` has come through that then.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// The server has stopped reading with this frame in hand.
    pub(crate) stuck: Option<Incoming>,
    /// The server has something to do here.
    pub(crate) pump: bool,
    /// The server has said its close and waits until this moment for the answer.
    pub(crate) lingers: Option<Moment>,
    /// The server does not look at its timers before this moment.
    pub(crate) timer_from: Moment,
    /// Messages before this that were for its program alone may have been let go before it arrived.
    pub(crate) let_go: u64,
}

impl Link {
    pub(crate) fn turn(&self) -> Option<AttachmentNumber> {
        match self.server_end {
            ServerEnd::Turn(number) => Some(number),
            ServerEnd::Coming | ServerEnd::Refused(_) | ServerEnd::Gone => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.client_end && matches!(self.server_end, ServerEnd::Gone)
    }

    /// The client lets go of it.
    pub(crate) fn leave(&mut self, at: Moment, says_close: bool) {
        if std::mem::replace(&mut self.client_end, false) {
            if says_close {
                self.send_up(at, Up::Close);
            }
            self.send_up(at, Up::Eof);
            let comes = matches!(self.server_end, ServerEnd::Coming);
            if self.tunnel.is_some() && comes && matches!(self.offer, Offer::Fresh { .. }) {
                // An offer without a cursor that came late would speak for a program that holds nothing, and this program
                // may hold something.
                self.up = Pipe::new();
                self.server_end = ServerEnd::Gone;
            }
        }
    }

    /// The client's end sends.
    pub(crate) fn send_up(&mut self, at: Moment, up: Up) {
        match &mut self.tunnel {
            Some(tunnel) => tunnel.send_up(up, at),
            None => self.up.push(at, up),
        }
    }

    /// The server's end sends.
    pub(crate) fn send_down(&mut self, at: Moment, down: Down) {
        match &mut self.tunnel {
            Some(tunnel) => tunnel.send_down(down, at),
            None => self.down.push(at, down),
        }
    }
}
