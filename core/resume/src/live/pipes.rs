//! Pipes: transports that are made of requests. Here is what a pipe's requests and its transport share, and where requests
//! find it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use http::HeaderValue;
use session_resume_proto::{
    Moment,
    pipe::{Nonce, RequestId, Server, Token},
    session::Access,
};

use crate::words::{handler_type::HandlerType, identity::Identity};

/// The table has this many locks.
const SHARDS: usize = 16;

/// What a pipe's requests and its transport share.
pub(crate) struct Pipe {
    pub(crate) token: Token,
    /// Whose it is.
    pub(crate) identity: Identity,
    /// What its client may do, as the open was told.
    pub(crate) access: Access,
    /// The handler of the route on which it was opened; `None` if that has refused it.
    pub(crate) handler: Option<HandlerType>,
    /// Its client has shown its cookie as it opened, here or to the node that has sent the open on.
    pub(crate) was_known: bool,
    /// The cookie that the answer to its open has set: a repeated open gets it again.
    pub(crate) set_cookie: Option<HeaderValue>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) server: Server,
    /// The route has refused a request: the transport ends.
    pub(crate) refused: bool,
    /// The transport's close is in an answer.
    pub(crate) close_is_out: bool,
    next_request: u64,
    transport: Option<Waker>,
    requests: Vec<(RequestId, Waker)>,
}

impl Pipe {
    pub(crate) fn new(
        token: Token,
        identity: Identity,
        access: Access,
        handler: Option<HandlerType>,
        was_known: bool,
        set_cookie: Option<HeaderValue>,
        server: Server,
    ) -> Arc<Self> {
        let state = State {
            server,
            refused: false,
            close_is_out: false,
            next_request: 0,
            transport: None,
            requests: Vec::new(),
        };
        let state = Mutex::new(state);
        Arc::new(Self { token, identity, access, handler, was_known, set_cookie, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps the machine, and wakes all that wait for a step.
    pub(crate) fn step<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = step(&mut state);
        let transport = state.transport.take();
        let requests = std::mem::take(&mut state.requests);
        drop(state);
        wake_all(transport, requests);
        result
    }

    /// Steps the machine. If `idle` says that nothing came of it, the caller waits for the next step.
    pub(crate) fn step_or_wait<R>(
        &self,
        waits: Waits,
        cx: &Context<'_>,
        step: impl FnOnce(&mut State) -> R,
        idle: impl FnOnce(&R) -> bool,
    ) -> R {
        let mut state = self.lock();
        let result = step(&mut state);
        if idle(&result) {
            match waits {
                Waits::Transport => state.transport = Some(cx.waker().clone()),
                Waits::Request(id) => {
                    state.requests.retain(|(of, _)| *of != id);
                    state.requests.push((id, cx.waker().clone()));
                }
            }
            return result;
        }
        // The others look again.
        let transport = if waits == Waits::Transport { None } else { state.transport.take() };
        let requests = std::mem::take(&mut state.requests);
        drop(state);
        wake_all(transport, requests);
        result
    }

    /// Looks for something; if it is not there, the transport waits for the next step.
    pub(crate) fn look_or_wait<R>(
        &self,
        cx: &Context<'_>,
        look: impl FnOnce(&State) -> Option<R>,
    ) -> Option<R> {
        let mut state = self.lock();
        let found = look(&state);
        if found.is_none() {
            state.transport = Some(cx.waker().clone());
        }
        found
    }

    /// Returns the number of a request that begins.
    pub(crate) fn begin_request(&self) -> RequestId {
        let mut state = self.lock();
        state.next_request += 1;
        RequestId(state.next_request)
    }

    /// A request is over: nothing wakes it any more.
    pub(crate) fn end_request(&self, id: RequestId) {
        self.lock().requests.retain(|(of, _)| *of != id);
    }
}

fn wake_all(transport: Option<Waker>, requests: Vec<(RequestId, Waker)>) {
    for waker in transport.into_iter().chain(requests.into_iter().map(|(_, waker)| waker)) {
        waker.wake();
    }
}

/// Who waits for a pipe's next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    Transport,
    Request(RequestId),
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

type Shard = HashMap<Nonce, Arc<Pipe>>;

/// The pipes of a layer.
pub(crate) struct Pipes {
    shards: Box<[Mutex<Shard>]>,
    count: AtomicUsize,
    /// Those that are over, and until when that is told; the first ones first.
    over: Mutex<VecDeque<(Moment, Token)>>,
    draining: AtomicBool,
}

impl Pipes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            over: Mutex::default(),
            draining: AtomicBool::new(false),
        })
    }

    fn shard(&self, nonce: &Nonce) -> MutexGuard<'_, Shard> {
        let byte = nonce.as_str().bytes().fold(0_usize, |sum, byte| sum + usize::from(byte));
        self.shards[byte % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether one more pipe may be opened, if there may be this number of them.
    pub(crate) fn has_room(&self, most: usize, now: Moment) -> bool {
        self.forget_those_over(now);
        self.len() < most
    }

    pub(crate) fn opened_by(&self, nonce: &Nonce) -> Option<Arc<Pipe>> {
        self.shard(nonce).get(nonce).map(Arc::clone)
    }

    pub(crate) fn get(&self, token: &Token) -> Option<Arc<Pipe>> {
        self.opened_by(&token.nonce).filter(|pipe| pipe.token.is(token))
    }

    /// Adds a pipe, unless its nonce has opened one that lives; returns that then.
    pub(crate) fn insert(&self, pipe: &Arc<Pipe>, now: Moment) -> Option<Arc<Pipe>> {
        self.forget_those_over(now);
        let mut shard = self.shard(&pipe.token.nonce);
        if let Some(there) = shard.get(&pipe.token.nonce)
            && !there.lock().server.is_gone()
        {
            return Some(Arc::clone(there));
        }
        if shard.insert(pipe.token.nonce, Arc::clone(pipe)).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    fn remove(&self, token: &Token) {
        let mut shard = self.shard(&token.nonce);
        if shard.get(&token.nonce).is_some_and(|pipe| pipe.token.is(token)) {
            shard.remove(&token.nonce);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The pipe's transport is gone. If nobody has read how it was closed, that is told for a while.
    pub(crate) fn retire(&self, pipe: &Pipe, now: Moment) {
        let until = pipe.step(|state| {
            state.server.handle_dropped(now);
            (!state.server.is_forgotten(now)).then(|| state.server.poll_timeout()).flatten()
        });
        self.forget_those_over(now);
        match until {
            Some(until) => {
                let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
                over.push_back((until, pipe.token));
            }
            None => self.remove(&pipe.token),
        }
    }

    fn forget_those_over(&self, now: Moment) {
        loop {
            let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            if over.front().is_none_or(|(until, _)| *until > now) {
                return;
            }
            let token = over.pop_front().map(|(_, token)| token);
            drop(over);
            if let Some(token) = token {
                self.remove(&token);
            }
        }
    }

    /// From now on a transport is done when its close is in an answer: the process ends soon.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
