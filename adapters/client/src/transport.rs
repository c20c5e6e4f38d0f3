use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use session_resume_proto::pipe::Path;

#[cfg(feature = "http")]
use crate::pipe::Pipe;
use crate::{Close, shared::Shared, step::Step, websocket::WebSocket};

/// An open transport of the driver.
pub(crate) enum Transport {
    WebSocket(Box<WebSocket>),
    /// Opens itself with its first request.
    #[cfg(feature = "http")]
    Pipe(Box<Pipe>),
}

impl Transport {
    /// Waits for the next step. Cancel safe.
    pub(crate) async fn step(&mut self, shared: &Shared) -> Step {
        poll_fn(|cx| self.poll_step(cx, shared)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Step> {
        match self {
            Self::WebSocket(socket) => socket.poll_step(cx, shared),
            #[cfg(feature = "http")]
            Self::Pipe(pipe) => pipe.poll_step(cx),
        }
    }

    /// How frames travel.
    pub(crate) fn path(&self) -> Path {
        match self {
            Self::WebSocket(_) => Path::WebSocket,
            #[cfg(feature = "http")]
            Self::Pipe(pipe) => pipe.path(),
        }
    }

    /// Says `close`, if given, and waits until the server knows, but not for ever.
    pub(crate) async fn linger(self, close: Option<Close>) {
        match self {
            Self::WebSocket(socket) => socket.linger(close).await,
            #[cfg(feature = "http")]
            Self::Pipe(pipe) => pipe.linger(close).await,
        }
    }
}
