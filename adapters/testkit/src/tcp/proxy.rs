use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use super::{
    fate::{End, Fate, Stall},
    reset,
};
use crate::soon;

/// How long an end whose peer was told FIN may go on; it only frees the socket.
const LINGER: Duration = Duration::from_secs(5);

/// What becomes of a connection from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// All passes.
    Pass,
    /// What the client says is kept here.
    Hold,
    /// What the client says passes; what the server says is thrown away.
    Swallow,
    /// Nothing is read.
    Freeze,
    /// The client is reset. What was held stays here, with the connection to the server.
    Cut,
    /// After [`Cut`](Self::Cut): what was held is sent on.
    Release,
}

/// A network on real sockets that breaks: it listens, passes bytes on to a server that may change, and does to
/// connections what networks do. Needs a clock that runs.
///
/// What happens to a connection is told by its [`Fate`], at a byte, or by the test, at a moment.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepts: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    counts: Counts,
    /// One permit lets one stall go on.
    told: Semaphore,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    /// What new connections begin with; `None`: they are not taken.
    order: Option<Order>,
    links: Vec<Link>,
}

/// What has happened to all connections so far.
#[derive(Default, Debug)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were taken.
    pub connections: AtomicU64,
    /// Connections that are over.
    pub ended: AtomicU64,
    /// Connections that their fate ended with a reset.
    pub resets: AtomicU64,
    /// Connections that their fate ended with a close.
    pub closes: AtomicU64,
    /// Stalls that have begun.
    pub stalls: AtomicU64,
    /// Stalls that are over.
    pub gone_on: AtomicU64,
    /// The bytes that passed on the last connection that is over, both directions together.
    pub passed: AtomicU64,
}

#[derive(Debug)]
struct Link {
    order: watch::Sender<Order>,
    held: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Connections that were cut with something on them that has not arrived yet.
#[derive(Debug)]
#[must_use]
pub struct Late(Vec<Link>);

impl Proxy {
    /// Begins to listen, in front of the server at `target`. The network is calm until the test says otherwise.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::with_fates(target, || Fate::CALM).await
    }

    /// As [`start`](Self::start); each connection has the fate that `fates` says.
    ///
    /// # Panics
    ///
    /// As there.
    pub async fn with_fates(
        target: SocketAddr,
        mut fates: impl FnMut() -> Fate + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State { target, order: Some(Order::Pass), links: Vec::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            counts: Counts::default(),
            told: Semaphore::new(0),
        });
        let accepts = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    if let Ok((client, _)) = listener.accept().await {
                        Shared::take(&shared, client, &mut fates);
                    }
                }
            }
        });
        Self { address, shared, accepts }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server that new connections are led to.
    pub fn target(&self) -> SocketAddr {
        self.shared.lock().target
    }

    /// Leads new connections to another server.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// What has happened so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.shared.counts.connections.load(SeqCst)
    }

    /// Lets one connection that stalls until it is told go on.
    pub fn go_on(&self) {
        self.shared.told.add_permits(1);
    }

    /// From now on nothing passes, on no connection, and nobody is told.
    pub fn freeze(&self) {
        self.shared.lock().order = Some(Order::Freeze);
        self.tell(Order::Freeze);
    }

    /// Everything passes again; what was held goes first.
    pub fn thaw(&self) {
        self.shared.lock().order = Some(Order::Pass);
        self.tell(Order::Pass);
    }

    /// New connections pass again; those that are there stay as they are, for ever.
    pub fn thaw_new(&self) {
        self.shared.lock().order = Some(Order::Pass);
    }

    /// What clients say from now on on the present connections is kept here.
    pub fn hold(&self) {
        self.tell(Order::Hold);
    }

    /// What the server answers from now on on the present connections is thrown away.
    pub fn swallow(&self) {
        self.tell(Order::Swallow);
    }

    /// Resets all clients. What was held can be let go later.
    pub fn cut(&self) -> Late {
        let links = std::mem::take(&mut self.shared.lock().links);
        for link in &links {
            let _ = link.order.send(Order::Cut);
        }
        Late(links)
    }

    /// Resets the clients of which something is held, and lets everything of the others pass.
    pub fn cut_held(&self) -> Late {
        let mut state = self.shared.lock();
        let links = std::mem::take(&mut state.links);
        let (cut, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.held() > 0);
        for link in &others {
            let _ = link.order.send(Order::Pass);
        }
        state.links = others;
        for link in &cut {
            let _ = link.order.send(Order::Cut);
        }
        Late(cut)
    }

    /// Resets all clients, and takes no new ones: they are reset, too.
    pub fn go_offline(&self) {
        self.shared.lock().order = None;
        drop(self.cut());
    }

    /// Takes clients again.
    pub fn go_online(&self) {
        self.shared.lock().order = Some(Order::Pass);
    }

    /// Waits until something is held, and until nothing more comes.
    ///
    /// # Panics
    ///
    /// Panics if nothing comes.
    pub async fn held(&self) {
        let mut before = 0;
        soon("something is held", async {
            loop {
                let held = self.shared.lock().links.iter().map(Link::held).sum();
                if held > 0 && held == before {
                    return;
                }
                before = held;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    fn tell(&self, order: Order) {
        for link in &self.shared.lock().links {
            let _ = link.order.send(order);
        }
    }
}

impl Late {
    /// Lets arrive what was held, and returns when the server has answered it.
    ///
    /// # Cancel safety
    ///
    /// What was held arrives all the same.
    pub async fn arrive(self) {
        for link in &self.0 {
            let _ = link.order.send(Order::Release);
        }
        for link in self.0 {
            let _ = link.task.await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        for link in &self.shared.lock().links {
            link.task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, client: TcpStream, fates: &mut impl FnMut() -> Fate) {
        let mut state = self.lock();
        let Some(order) = state.order else {
            reset(&client);
            return;
        };
        self.counts.connections.fetch_add(1, SeqCst);
        let fate = fates();
        let (order, orders) = watch::channel(order);
        let held = Arc::<AtomicUsize>::default();
        let connection = Connection {
            shared: Arc::clone(self),
            fate,
            left: fate.bytes,
            stall: fate.stall,
            orders,
            held: Arc::clone(&held),
            kept: Vec::new(),
            answers: Vec::new(),
        };
        let task = tokio::spawn(connection.pass(client, state.target));
        state.links.retain(|link| !link.task.is_finished());
        state.links.push(Link { order, held, task });
    }
}

impl Link {
    fn held(&self) -> usize {
        self.held.load(SeqCst)
    }
}

struct Connection {
    shared: Arc<Shared>,
    fate: Fate,
    left: u64,
    /// Still to come.
    stall: Option<Stall>,
    orders: watch::Receiver<Order>,
    /// The length of `kept`.
    held: Arc<AtomicUsize>,
    /// What the client has said and the server is not sent.
    kept: Vec<u8>,
    /// What the server has said and the client is not sent.
    answers: Vec<u8>,
}

/// Why nothing passes any more.
enum Over {
    /// The bytes of its fate have passed, or it broke by itself.
    Fate,
    /// One end is closed.
    Closed,
    /// The test says so.
    Cut,
}

impl Connection {
    async fn pass(mut self, client: TcpStream, target: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        if let Ok(server) = TcpStream::connect(target).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let over = self.until_over(&client, &server).await;
            shared.counts.passed.store(self.fate.bytes - self.left, SeqCst);
            match over {
                Over::Closed => {}
                Over::Fate => self.end(&client, &server).await,
                Over::Cut => {
                    reset(&client);
                    drop(client);
                    self.arrive_late(&server).await;
                }
            }
        }
        shared.counts.ended.fetch_add(1, SeqCst);
    }

    async fn until_over(&mut self, client: &TcpStream, server: &TcpStream) -> Over {
        let mut orders = self.orders.clone();
        let over = tokio::select! {
            biased;
            // Also while it stalls, or while an end does not read.
            cut = orders.wait_for(|order| *order == Order::Cut) => cut.map(|_| Over::Cut).ok(),
            over = self.pump(client, server) => Some(over.unwrap_or(Over::Fate)),
        };
        match over {
            // A client that goes with something held: it may still be wanted.
            Some(Over::Closed) if !self.kept.is_empty() => Over::Cut,
            Some(over) => over,
            None => Over::Closed,
        }
    }

    /// Passes bytes on until an end or the budget.
    async fn pump(&mut self, client: &TcpStream, server: &TcpStream) -> io::Result<Over> {
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut orders = self.orders.clone();
        while self.left > 0 {
            let order = *orders.borrow_and_update();
            if order == Order::Pass {
                let kept = std::mem::take(&mut self.kept);
                self.held.store(0, SeqCst);
                self.forward(&kept, server).await?;
                let answers = std::mem::take(&mut self.answers);
                self.forward(&answers, client).await?;
            }
            self.stall().await;
            let reads = order != Order::Freeze;
            let (from_client, read) = tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        return Ok(Over::Closed);
                    }
                    continue;
                }
                read = read(client, &mut up), if reads => (true, read?),
                read = read(server, &mut down), if reads => (false, read?),
            };
            if read == 0 {
                return Ok(Over::Closed);
            }
            // What counts is the order when it was read, not when the wait began.
            let order = *orders.borrow();
            match (order, from_client) {
                (Order::Hold | Order::Freeze | Order::Cut, true) => {
                    self.kept.extend_from_slice(&up[..read]);
                    self.held.store(self.kept.len(), SeqCst);
                }
                (Order::Freeze, false) => self.answers.extend_from_slice(&down[..read]),
                (Order::Swallow, false) => {}
                (_, true) => self.forward(&up[..read], server).await?,
                (_, false) => self.forward(&down[..read], client).await?,
            }
        }
        Ok(Over::Fate)
    }

    /// Writes as much as its fate lets pass.
    async fn forward(&mut self, bytes: &[u8], to: &TcpStream) -> io::Result<()> {
        let mut bytes = &bytes[..bytes.len().min(whole(self.left))];
        while !bytes.is_empty() {
            let now = bytes.len().min(whole(self.until_stall()));
            write(to, &bytes[..now]).await?;
            self.left -= now as u64;
            bytes = &bytes[now..];
            self.stall().await;
        }
        Ok(())
    }

    /// How many bytes pass before the stall.
    fn until_stall(&self) -> u64 {
        let passed = self.fate.bytes - self.left;
        self.stall.map_or(u64::MAX, |stall| stall.at - passed)
    }

    /// Waits if it is time to.
    async fn stall(&mut self) {
        if self.until_stall() > 0 {
            return;
        }
        if let Some(stall) = self.stall.take() {
            let Shared { counts, told, .. } = &*self.shared;
            counts.stalls.fetch_add(1, SeqCst);
            match stall.wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => told.acquire().await.expect("never closed").forget(),
            }
            counts.gone_on.fetch_add(1, SeqCst);
        }
    }

    async fn end(&self, client: &TcpStream, server: &TcpStream) {
        let counts = &self.shared.counts;
        match self.fate.end {
            End::Close => {
                counts.closes.fetch_add(1, SeqCst);
                let ends = join(finish(client), finish(server));
                let _ = tokio::time::timeout(LINGER, ends).await;
                return;
            }
            End::BlackHole(wait) => tokio::time::sleep(wait).await,
            End::Reset => {}
        }
        counts.resets.fetch_add(1, SeqCst);
        reset(client);
        reset(server);
    }

    /// The client has gone. What was held may still be let go.
    async fn arrive_late(&mut self, server: &TcpStream) {
        if self.kept.is_empty() {
            return;
        }
        if self.orders.wait_for(|order| *order == Order::Release).await.is_err() {
            return;
        }
        if write(server, &self.kept).await.is_ok() {
            let _ = read(server, &mut [0; 4096]).await;
        }
    }
}

/// Sends FIN and reads to the end: a socket dropped with something unread would send RST instead.
async fn finish(stream: &TcpStream) {
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
    while read(stream, &mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
}

fn whole(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}
