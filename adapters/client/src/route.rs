//! One attempt of the machine, and the transport that comes of it. To the machine both are one, whatever was tried before.

use std::{future::pending, pin::Pin, sync::Arc};

#[cfg(feature = "http")]
use session_resume_proto::pipe::Form;
use session_resume_proto::{Moment, client::TransportNumber, pipe::Path, wire::Offer};

#[cfg(feature = "http")]
use crate::pipe::Pipe;
use crate::{
    Cause, connector::protocols, shared::Shared, step::Step, transport::Transport,
    websocket::WebSocket,
};

/// A way to the server that is tried, or the transport that has come of it.
pub(crate) struct Route {
    pub(crate) number: TransportNumber,
    offer: Offer,
    /// When this path was begun.
    pub(crate) began: Moment,
    /// The path that was tried before in this attempt came to nothing because of this.
    pub(crate) before: Option<Cause>,
    /// The hello has come.
    pub(crate) greeted: bool,
    stage: Stage,
    /// Ends when the server answers otherwise, and the WebSocket is mute.
    doubt: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

enum Stage {
    Opening(Pin<Box<dyn Future<Output = Result<Box<WebSocket>, Cause>> + Send>>),
    Open(Transport),
}

/// What has happened on a route.
pub(crate) enum Happened {
    /// The WebSocket is there, without hello so far.
    Opened(Box<WebSocket>),
    /// It could not be opened.
    Failed(Cause),
    /// The server answers other requests, and the WebSocket brings nothing.
    Mute,
    Step(Step),
}

impl Route {
    /// Begins an attempt by `path`.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        number: TransportNumber,
        offer: Offer,
        path: Path,
    ) -> Self {
        let offered = protocols(&offer);
        let (stage, doubt) = match path {
            Path::WebSocket => {
                let shared = Arc::clone(shared);
                let opening = async move {
                    let socket = shared.connector.connect(&offered).await?;
                    Ok(Box::new(WebSocket::new(number, socket)))
                };
                (Stage::Opening(Box::pin(opening)), None)
            }
            #[cfg(feature = "http")]
            Path::Sse | Path::Poll => {
                let form = if path == Path::Sse { Form::Stream } else { Form::Poll };
                let pipe = Pipe::new(shared, number, offered, form);
                (Stage::Open(Transport::Pipe(Box::new(pipe))), None)
            }
            #[cfg(not(feature = "http"))]
            Path::Sse | Path::Poll => unreachable!("without `http` only WebSockets are allowed"),
        };
        let began = shared.now();
        Self { number, offer, began, before: None, greeted: false, stage, doubt }
    }

    /// Begins the same attempt by another path, as `cause` has ended this one.
    pub(crate) fn turn(self, shared: &Arc<Shared>, path: Path, cause: Cause) -> Self {
        let turned = Self::begin(shared, self.number, self.offer, path);
        Self { before: Some(cause), ..turned }
    }

    /// A WebSocket that has no hello for a while is doubted: where the server answers a plain request, it is given up.
    #[cfg(feature = "http")]
    pub(crate) fn doubt(&mut self, shared: &Arc<Shared>) {
        use session_resume_proto::numbers::CHOICE_MUTE;

        let shared = Arc::clone(shared);
        self.doubt = Some(Box::pin(async move {
            tokio::time::sleep(CHOICE_MUTE).await;
            if !shared.connector.answers().await {
                // The server is as silent as the WebSocket.
                pending::<()>().await;
            }
        }));
    }

    pub(crate) fn path(&self) -> Path {
        match &self.stage {
            Stage::Opening(_) => Path::WebSocket,
            Stage::Open(transport) => transport.path(),
        }
    }

    /// The socket is there.
    pub(crate) fn open(&mut self, socket: Box<WebSocket>) {
        self.stage = Stage::Open(Transport::WebSocket(socket));
    }

    /// The hello has come.
    pub(crate) fn greet(&mut self) {
        self.greeted = true;
        self.before = None;
        self.doubt = None;
    }

    /// Returns the transport, if it is there.
    pub(crate) fn into_transport(self) -> Option<Transport> {
        match self.stage {
            Stage::Opening(_) => None,
            Stage::Open(transport) => Some(transport),
        }
    }

    /// Why a transport without hello is gone that says nothing of it.
    pub(crate) fn failure(&mut self) -> Cause {
        match &mut self.stage {
            #[cfg(feature = "http")]
            Stage::Open(Transport::Pipe(pipe)) => pipe.failure(),
            Stage::Open(Transport::WebSocket(_)) | Stage::Opening(_) => Cause::Lost,
        }
    }

    /// Waits until something happens. Cancel safe.
    pub(crate) async fn happened(&mut self, shared: &Shared) -> Happened {
        let Self { stage, doubt, .. } = self;
        let mute = async {
            match doubt {
                Some(doubt) => doubt.await,
                None => pending().await,
            }
        };
        tokio::select! {
            happened = stage.happened(shared) => happened,
            () = mute => Happened::Mute,
        }
    }
}

impl Stage {
    async fn happened(&mut self, shared: &Shared) -> Happened {
        match self {
            Self::Opening(opening) => match opening.await {
                Ok(socket) => Happened::Opened(socket),
                Err(cause) => Happened::Failed(cause),
            },
            Self::Open(transport) => Happened::Step(transport.step(shared).await),
        }
    }
}
