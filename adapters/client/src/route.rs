//! One attempt of the machine, and the transport that comes of it. To the machine both are one, whatever was tried before.

use std::{
    future::{pending, ready},
    pin::Pin,
    sync::Arc,
};

#[cfg(feature = "http")]
use session_resume_proto::pipe::Form;
use session_resume_proto::{Moment, client::TransportNumber, pipe::Path, wire::Offer};

#[cfg(feature = "http")]
use crate::pipe::Pipe;
use crate::{
    Attempt, Cause,
    connector::protocols,
    request::{Preparing, Target},
    shared::Shared,
    step::Step,
    transport::Transport,
    websocket::WebSocket,
};

/// A way to the server that is tried, or the transport that has come of it.
pub(crate) struct Route {
    pub(crate) number: TransportNumber,
    offer: Offer,
    /// The path that was tried before in this attempt came to nothing because of this.
    pub(crate) before: Option<Cause>,
    /// The hello has come.
    pub(crate) greeted: bool,
    stage: Stage,
    /// Ends when the server answers otherwise, and the WebSocket is mute.
    doubt: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

enum Stage {
    /// Finds out where to go by this path.
    Preparing(Path, Preparing),
    Opening(Begun, Pin<Box<dyn Future<Output = Result<Box<WebSocket>, Cause>> + Send>>),
    Open(Begun, Transport),
}

/// A path that was begun.
#[derive(Clone)]
struct Begun {
    target: Arc<Target>,
    at: Moment,
}

/// What has happened on a route.
pub(crate) enum Happened {
    /// It is known where to go.
    Prepared(Arc<Target>),
    /// The application did not say where to go.
    Unprepared(Cause),
    /// The WebSocket is there, without hello so far.
    Opened(Box<WebSocket>),
    /// It could not be opened.
    Failed(Cause),
    /// The server answers other requests, and the WebSocket brings nothing.
    Mute,
    Step(Step),
}

impl Route {
    /// Begins an attempt by `path`: finds out where it goes.
    pub(crate) fn prepare(
        shared: &Shared,
        number: TransportNumber,
        offer: Offer,
        path: Path,
        attempt: Attempt,
    ) -> Self {
        let stage = Stage::Preparing(path, shared.connector.prepare(attempt));
        Self { number, offer, before: None, greeted: false, stage, doubt: None }
    }

    /// Begins the path, to where it was prepared for.
    pub(crate) fn begin(&mut self, shared: &Arc<Shared>, target: Arc<Target>) {
        let offered = protocols(&self.offer);
        let number = self.number;
        let begun = Begun { target: Arc::clone(&target), at: shared.now() };
        self.stage = match self.path() {
            Path::WebSocket => {
                let shared = Arc::clone(shared);
                let opening = async move {
                    let socket = shared.connector.connect(&target, &offered).await?;
                    Ok(Box::new(WebSocket::new(number, socket)))
                };
                Stage::Opening(begun, Box::pin(opening))
            }
            #[cfg(feature = "http")]
            path @ (Path::Sse | Path::Poll) => {
                let form = if path == Path::Sse { Form::Stream } else { Form::Poll };
                let pipe = Pipe::new(shared, &target, number, offered, form);
                Stage::Open(begun, Transport::Pipe(Box::new(pipe)))
            }
            #[cfg(not(feature = "http"))]
            Path::Sse | Path::Poll => unreachable!("without `http` only WebSockets are allowed"),
        };
    }

    /// Goes on with the same attempt by another path, as `cause` has ended this one. What was prepared stays.
    pub(crate) fn turn(self, path: Path, cause: Cause) -> Self {
        let prepared = match self.stage {
            Stage::Preparing(_, preparing) => preparing,
            Stage::Opening(begun, _) | Stage::Open(begun, _) => Box::pin(ready(Ok(begun.target))),
        };
        let Self { number, offer, .. } = self;
        let stage = Stage::Preparing(path, prepared);
        Self { number, offer, before: Some(cause), greeted: false, stage, doubt: None }
    }

    /// Returns when this path was begun; `None`: it is being prepared.
    pub(crate) fn began(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Preparing(..) => None,
            Stage::Opening(begun, _) | Stage::Open(begun, _) => Some(begun.at),
        }
    }

    /// A WebSocket that has no hello for a while is doubted: where the server answers a plain request, it is given up.
    #[cfg(feature = "http")]
    pub(crate) fn doubt(&mut self, shared: &Arc<Shared>) {
        use session_resume_proto::numbers::CHOICE_MUTE;

        let Stage::Opening(Begun { target, .. }, _) = &self.stage else {
            return;
        };
        let (shared, target) = (Arc::clone(shared), Arc::clone(target));
        self.doubt = Some(Box::pin(async move {
            tokio::time::sleep(CHOICE_MUTE).await;
            if !shared.connector.answers(&target).await {
                // The server is as silent as the WebSocket.
                pending::<()>().await;
            }
        }));
    }

    pub(crate) fn path(&self) -> Path {
        match &self.stage {
            Stage::Preparing(path, _) => *path,
            Stage::Opening(..) => Path::WebSocket,
            Stage::Open(_, transport) => transport.path(),
        }
    }

    /// The socket is there.
    pub(crate) fn open(&mut self, socket: Box<WebSocket>) {
        if let Stage::Opening(begun, _) = &self.stage {
            self.stage = Stage::Open(begun.clone(), Transport::WebSocket(socket));
        }
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
            Stage::Preparing(..) | Stage::Opening(..) => None,
            Stage::Open(_, transport) => Some(transport),
        }
    }

    /// Why a transport without hello is gone that says nothing of it.
    pub(crate) fn failure(&mut self) -> Cause {
        match &mut self.stage {
            #[cfg(feature = "http")]
            Stage::Open(_, Transport::Pipe(pipe)) => pipe.failure(),
            Stage::Open(_, Transport::WebSocket(_)) | Stage::Opening(..) | Stage::Preparing(..) => {
                Cause::Lost
            }
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
            Self::Preparing(_, preparing) => match preparing.await {
                Ok(target) => Happened::Prepared(target),
                Err(cause) => Happened::Unprepared(cause),
            },
            Self::Opening(_, opening) => match opening.await {
                Ok(socket) => Happened::Opened(socket),
                Err(cause) => Happened::Failed(cause),
            },
            Self::Open(_, transport) => Happened::Step(transport.step(shared).await),
        }
    }
}
