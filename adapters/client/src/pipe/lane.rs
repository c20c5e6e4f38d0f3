use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use session_resume_proto::pipe::Answer;

use crate::{Cause, connector::Connection, request::Target, shared::Shared};

/// One connection to the server, or none, and the request that is under way on it. A request that is dropped is
/// aborted, and its connection with it.
pub(super) struct Lane {
    shared: Arc<Shared>,
    target: Arc<Target>,
    /// A connection that waits for the next request.
    idle: Option<Connection>,
    exchange: Exchange,
}

enum Exchange {
    None,
    Asking(Pin<Box<dyn Future<Output = Result<Answered, Cause>> + Send>>),
    Reading(Answered),
}

struct Answered {
    response: Response<Incoming>,
    connection: Connection,
}

/// What has been heard of the request.
pub(super) enum Heard {
    Answer(Answer),
    /// A piece of the answer's body.
    Piece(Bytes),
    /// The answer has ended cleanly.
    End,
    Failed(Cause),
}

impl Lane {
    pub(super) fn new(shared: &Arc<Shared>, target: &Arc<Target>) -> Self {
        let (shared, target) = (Arc::clone(shared), Arc::clone(target));
        Self { shared, target, idle: None, exchange: Exchange::None }
    }

    /// Begins a request. None is under way.
    pub(super) fn begin(&mut self, request: Request<Full<Bytes>>) {
        let (shared, target) = (Arc::clone(&self.shared), Arc::clone(&self.target));
        let idle = self.idle.take();
        self.exchange = Exchange::Asking(Box::pin(async move {
            if let Some(connection) = idle
                && let Ok(answered) = connection.ask(request.clone()).await
            {
                return Ok(answered.into());
            }
            // The server may have closed it since. To ask twice does no harm: the pipe's requests have numbers.
            let connection = shared.connector.http(&target).await?;
            connection.ask(request).await.map(Into::into)
        }));
    }

    /// Aborts what is under way.
    pub(super) fn abort(&mut self) {
        self.exchange = Exchange::None;
    }

    /// Nothing more of the answer matters.
    pub(super) fn leave(&mut self) {
        if let Exchange::Reading(answered) = std::mem::replace(&mut self.exchange, Exchange::None)
            && answered.response.body().is_end_stream()
        {
            self.idle = Some(answered.connection);
        }
    }

    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match &mut self.exchange {
            Exchange::None => Poll::Pending,
            Exchange::Asking(asking) => Poll::Ready(match ready!(asking.as_mut().poll(cx)) {
                Ok(answered) => {
                    let headers = answered.response.headers();
                    self.shared.connector.cookies.store(headers);
                    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                    let answer = Answer::read(answered.response.status().as_u16(), text);
                    self.exchange = Exchange::Reading(answered);
                    Heard::Answer(answer)
                }
                Err(cause) => {
                    self.exchange = Exchange::None;
                    Heard::Failed(cause)
                }
            }),
            Exchange::Reading(answered) => loop {
                let body = Pin::new(answered.response.body_mut());
                match ready!(body.poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        // Trailers say nothing.
                        if let Ok(piece) = frame.into_data() {
                            break Poll::Ready(Heard::Piece(piece));
                        }
                    }
                    Some(Err(err)) => {
                        self.exchange = Exchange::None;
                        break Poll::Ready(Heard::Failed(Cause::Unreachable(
                            err.to_string().into(),
                        )));
                    }
                    None => {
                        self.leave();
                        break Poll::Ready(Heard::End);
                    }
                }
            },
        }
    }
}

impl From<(Response<Incoming>, Connection)> for Answered {
    fn from((response, connection): (Response<Incoming>, Connection)) -> Self {
        Self { response, connection }
    }
}
