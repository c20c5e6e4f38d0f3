//! WebSockets of frameworks on hyper: from the request to an attachment. Frames are of the codec here; their headers
//! are read by tungstenite.

mod codec;
mod handshake;
#[cfg(feature = "http")]
mod probe;
mod scratch;
mod socket;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Instant};

use http::{HeaderValue, Method, Response, header, request::Parts};
use hyper::upgrade::OnUpgrade;

use self::handshake::Handshake;
#[cfg(feature = "http")]
pub(crate) use self::probe::Probe;
pub use self::socket::WebSocket;
#[cfg(feature = "http")]
use crate::live::session::IsUrgent;
use crate::{
    BlockingSession, Identity, IntoOutcome, LiveSession, Message,
    door::upgrade::Upgrade,
    words::{refusal::Refusal, request::list_items},
};

/// A WebSocket upgrade on the request's session.
///
/// The framework's handler runs on every connect; [`on_session`](Self::on_session)'s once per session.
///
/// [`Upgrade`] with the WebSocket's own part done: the opening handshake on HTTP/1.1 (RFC 6455) and, with the
/// feature `http2`, on HTTP/2 (RFC 8441), hyper's upgrade, and the frames.
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeUpgrade<T: Send + 'static = ()> {
    upgrade: Upgrade<T>,
    handshake: Handshake,
    on_upgrade: OnUpgrade,
}

impl<T: Send + 'static> ResumeUpgrade<T> {
    /// Checks a request for an upgrade and makes its session ready; for adapters.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with: the request is not a WebSocket upgrade (400, 405; 403 for the `OPTIONS`
    /// of a foreign page, which may so find out why it gets no WebSocket), the server does not upgrade connections
    /// (426), or as for [`Upgrade::prepare`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been done for this request yet.
    pub async fn prepare(parts: &Parts) -> Result<Self, Refusal> {
        let handshake = Handshake::check(parts).map_err(|refusal| {
            // A page that asks why it gets no WebSocket: with this method a browser names the page's origin.
            let asks = parts.method == Method::OPTIONS;
            let foreign = if asks { Upgrade::<T>::check_origin(parts).err() } else { None };
            foreign.unwrap_or(refusal).counted()
        });
        let mut handshake = handshake?;
        let mut upgrade = Upgrade::prepare(parts).await?;
        // The session keeps these parts, and must not keep the connection.
        let on_upgrade =
            handshake::take_on_upgrade(&mut upgrade.parts.extensions).map_err(Refusal::counted)?;
        handshake.protocol = upgrade.subprotocol().map(HeaderValue::from_static);
        Ok(Self { upgrade, handshake, on_upgrade })
    }

    /// Returns the browser's identity.
    pub fn identity(&self) -> Identity {
        self.upgrade.identity()
    }

    /// Selects one of the application's own subprotocols: the first of these that the client offers. Clients
    /// that offer to resume get `session-resume.v1` instead.
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        if self.upgrade.subprotocol().is_none() {
            let offers = |name: &str| {
                let headers = &self.upgrade.parts.headers;
                let mut offered = list_items(headers, &header::SEC_WEBSOCKET_PROTOCOL);
                offered.any(|offered| offered == name.as_bytes())
            };
            let chosen = protocols.into_iter().map(Into::into).find(|name| offers(name));
            self.handshake.protocol = chosen.and_then(|name| HeaderValue::from_str(&name).ok());
        }
        self
    }

    /// Names the handler, for sessions in a store: after a restart they go on only with a handler of this name.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.upgrade = self.upgrade.named(name);
        self
    }

    /// Lets this upgrade into its session whatever the path of the upgrade that started the session's handler.
    ///
    /// Without it, an upgrade on another path is answered with 409: `/ws/{room}` under the default key would put two
    /// rooms into one session. Use it where one session is meant to be on several paths. It is not asked where the
    /// application has chosen the session key ([`key::by_path`](crate::key::by_path),
    /// [`by_header`](crate::key::by_header), [`from_fn`](crate::key::from_fn)).
    ///
    /// What counts is what the *arriving* upgrade says: one without it is refused on another path than the one on which
    /// the handler was started, though that upgrade had it. Paths are compared literally, as in `key::by_path`.
    pub fn any_path(mut self) -> Self {
        self.upgrade = self.upgrade.any_path();
        self
    }

    /// Lets this client read, and not write: see [`Upgrade::read_only`].
    pub fn read_only(self) -> Self {
        Self { upgrade: self.upgrade.read_only(), ..self }
    }

    /// Lets this client stay until then: see [`Upgrade::valid_until`].
    pub fn valid_until(self, until: Instant) -> Self {
        Self { upgrade: self.upgrade.valid_until(until), ..self }
    }

    /// Says which messages the handler may take before their turn, while it works: see [`Upgrade::on_urgent`].
    pub fn on_urgent(self, is_urgent: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self { upgrade: self.upgrade.on_urgent(is_urgent), ..self }
    }

    #[cfg(feature = "http")]
    pub(crate) fn with_urgent(self, is_urgent: IsUrgent) -> Self {
        Self { upgrade: self.upgrade.with_urgent(is_urgent), ..self }
    }

    /// Sets the path of the request as the client sent it; for adapters, see [`Upgrade::at_path`].
    pub fn at_path(mut self, path: &str) -> Self {
        self.upgrade = self.upgrade.at_path(path);
        self
    }

    /// Opens the WebSocket on the session. The first time, the handler starts; it outlives the socket, and on
    /// later connects the closure is dropped uncalled. So what the closure captures is of the request that started
    /// the handler: [what that means](Upgrade::on_session).
    ///
    /// Another handler than the one that runs is answered with 409, and so is another path than the one on which it was
    /// started ([`any_path`](Self::any_path)): two routes that mean two things need two session keys.
    #[must_use = "return this response, or the WebSocket is not opened"]
    pub fn on_session<F, Fut>(self, handler: F) -> Response<String>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let Self { upgrade, handshake, on_upgrade } = self;
        let max = upgrade.max_message_size();
        match upgrade.on_session(handler) {
            Ok(accepted) => handshake.accept(on_upgrade, max, |socket| accepted.run(socket)),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may
    /// block.
    #[must_use = "return this response, or the WebSocket is not opened"]
    pub fn on_session_blocking<F, R>(self, handler: F) -> Response<String>
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        self.on_session(crate::live::handler::on_thread(handler))
    }

    /// Refuses the client: 403, or 4101 with the reason for one that offers to resume.
    #[must_use = "return this response, or the client is not told"]
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response<String> {
        let Self { upgrade, handshake, on_upgrade } = self;
        let max = upgrade.max_message_size();
        match upgrade.refuse(reason) {
            Ok(refused) => handshake.accept(on_upgrade, max, |socket| refused.run(socket)),
            Err(refusal) => refusal.into_response(),
        }
    }
}
