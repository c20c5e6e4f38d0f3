//! An upgrade that brings no transport: a request of plain HTTP that has a message for its session, or only starts it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::StatusCode;
use session_resume_proto::{
    Message, Moment,
    session::{Delivery, DeliveryKey, Refusal as AttachRefusal, Undelivered, Who},
};

use super::{
    accepted::{Accepted, Arriving, Newcomer, is_in_the_store, newcomer_retry},
    stand::{Hold, Stand},
};
use crate::{
    IntoOutcome, LiveSession, Session, SessionOrigin,
    live::{
        handler,
        registry::Registry,
        session::{Core, Peer, Shared},
    },
    words::{context::Requester, durability::Urgency, refusal::Refusal},
};

/// Why a message that came without a transport is not in the inbox.
#[derive(Debug)]
pub(crate) enum NotDelivered {
    /// Its sender may not come in.
    Refused(AttachRefusal),
    Undelivered(Undelivered),
}

/// A message that came without a transport, and is in the inbox.
pub(crate) struct InInbox<T: Send + 'static> {
    pub(crate) registry: Arc<Registry<T>>,
    pub(crate) session: Arc<Shared<T>>,
    /// What the session knows it by; `None`: it came before, and an earlier life has handled it.
    pub(crate) delivery: Option<Delivery>,
}

/// A request without a transport that has come to its session.
struct Come<T: Send + 'static> {
    registry: Arc<Registry<T>>,
    hold: Hold<T>,
    origin: SessionOrigin,
}

impl NotDelivered {
    /// How its sender is told.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => Refusal::by_attach(refusal),
            Self::Undelivered(undelivered) => match undelivered {
                Undelivered::Full | Undelivered::Ended => Refusal::inbox_full(),
                Undelivered::TooBig => Refusal::too_big(),
                Undelivered::OtherMessage => Refusal::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "this Idempotency-Key came with another message before",
                ),
            },
        }
    }
}

impl<T, F, Fut> Accepted<T, F>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    /// Puts one message into the session's inbox, and attaches nothing. The first one starts the handler.
    pub(crate) async fn deliver(
        self,
        message: Message,
        key: Option<DeliveryKey>,
    ) -> Result<InInbox<T>, NotDelivered> {
        let (come, delivery) = self
            .come(|core, who, now| {
                let delivery = core.machine.deliver(who, message, key, now);
                let delivery = delivery.map_err(NotDelivered::Undelivered)?;
                core.changed(Urgency::Soon);
                Ok(delivery)
            })
            .await?;
        let Come { registry, hold, .. } = come;
        Ok(InInbox { registry, session: Arc::clone(&hold.session), delivery })
    }

    /// Starts the handler if none runs, and attaches nothing. `by`: whose request that is.
    pub(crate) async fn start(self, by: Requester) -> Result<Session<T>, NotDelivered> {
        let (come, ()) = self.come(|_, _, _| Ok(())).await?;
        // Only after that the hold ends: the handle keeps the session from here on.
        Ok(Session::visited(Arc::clone(&come.hold.session), come.origin, by))
    }

    /// Comes to the session without a transport, does one step there, and starts the handler if none runs.
    async fn come<R>(
        self,
        step: impl FnOnce(&mut Core, &Who<Peer>, Moment) -> Result<R, NotDelivered>,
    ) -> Result<(Come<T>, R), NotDelivered> {
        let Arriving { stand, newcomer, handler, is_urgent } = *self.0;
        let Stand::Here(hold, origin) = stand else {
            return Err(NotDelivered::Undelivered(Undelivered::Ended));
        };
        let session = Arc::clone(&hold.session);
        if newcomer.registry.node().is_some() {
            // What it is told makes the client forget the message.
            if let Err(close) = newcomer.registry.confirm_attach(&session).boxed().await {
                let retry = Some(newcomer_retry(&close));
                let refusal = AttachRefusal { close, retry };
                return Err(NotDelivered::Refused(refusal));
            }
        } else if session.is_durable() {
            is_in_the_store(&session).boxed().await;
        }
        let Newcomer { registry, client, pass, asked_in, .. } = newcomer;
        let (id, who) = (session.id(), Who { name: client, info: pass.peer });
        let (done, starts) = session.with_core(|core, now| {
            let refused = |(_, refusal)| NotDelivered::Refused(refusal);
            pass.check(&registry, id, core).map_err(refused)?;
            let done = step(core, &who, now)?;
            Ok((done, pass.start(id, core, origin, now)))
        })?;
        if let Some(origin) = starts {
            handler::start(&session, origin, handler, is_urgent, &asked_in);
        }
        Ok((Come { registry, hold, origin }, done))
    }
}
