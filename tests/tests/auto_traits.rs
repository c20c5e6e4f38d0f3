//! What users rely on without saying so: a type that loses one of these breaks their code.

use std::{cell::Cell, fmt::Debug};

use session_resume::{
    AllowedOrigins, AttachRequest, BlockingSession, Client, CommitError, ConfigError, DrainReport,
    Event, ExpirationGuard, HandlerError, Heartbeat, Identity, IdentityChange, IdentityCookie,
    Limits, LiveSession, Message, Outcome, Outgoing, ResponseFuture, SendError, Session, SessionId,
    SessionInfo, SessionOrigin, SessionResume, SessionResumeService, adapter, key, reuse, store,
    transport,
};

/// State that is `Send` and nothing more: handles are `Sync` all the same, it is behind a lock.
type State = Cell<u8>;

fn sent<T: Debug + Send + 'static>() {}
fn shared<T: Debug + Send + Sync + 'static>() {}
fn handle<T: Clone + Debug + Send + Sync + 'static>() {}

#[test]
fn handles_are_cloned_and_shared() {
    handle::<SessionResume<State>>();
    handle::<SessionResumeService<Cloned, State>>();
    handle::<Session<State>>();
    handle::<IdentityChange>();
    handle::<key::KeyFn>();
    handle::<reuse::ReusePolicy>();
    handle::<IdentityCookie>();
    handle::<AllowedOrigins>();
    handle::<Limits>();
    handle::<Heartbeat>();
    handle::<session_resume_warp::FilterService<Cloned>>();
}

#[test]
fn values_are_cloned_and_shared() {
    handle::<Message>();
    shared::<Event>();
    handle::<Client>();
    handle::<AttachRequest>();
    handle::<Identity>();
    handle::<SessionId>();
    handle::<SessionOrigin>();
    handle::<SessionInfo>();
    handle::<key::SessionKey>();
    handle::<Outcome>();
    handle::<DrainReport>();
    handle::<CommitError>();
    handle::<Outgoing>();
    handle::<adapter::Refusal>();
    handle::<adapter::Answer>();
    handle::<transport::Frame>();
    handle::<store::StoreKey>();
    handle::<store::Versioned>();
    handle::<session_resume_warp::ResumeRejection>();
}

#[test]
fn what_is_used_once_can_be_sent() {
    sent::<LiveSession<State>>();
    sent::<BlockingSession<State>>();
    shared::<ExpirationGuard>();
    sent::<ResponseFuture<std::future::Ready<()>>>();
    sent::<adapter::Upgrade<State>>();
    sent::<adapter::Accepted<State, fn()>>();
    sent::<adapter::ResumeUpgrade<State>>();
    sent::<adapter::Serve<Cloned>>();
    sent::<session_resume_axum::ResumeUpgrade<State>>();
    sent::<transport::WebSocket<tokio::io::DuplexStream>>();
}

#[test]
fn errors_can_be_passed_up() {
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<SendError>();
    error::<CommitError>();
    error::<ConfigError>();
    error::<adapter::Refusal>();
    error::<store::StoreError>();
    error::<transport::TransportError>();
    sent::<HandlerError>();
}

/// Stands for a service of the user's.
#[derive(Clone, Debug)]
struct Cloned;
