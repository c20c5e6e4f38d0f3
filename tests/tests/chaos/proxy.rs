//! A proxy that does to connections what networks do.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

/// How long an end whose peer was told FIN may go on; it only frees the socket.
const LINGER: Duration = Duration::from_secs(5);

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Both sides are reset: what was under way is lost.
    Reset,
    /// Both sides are closed: what was under way still arrives.
    Close,
    /// Nothing passes any more for this long, then both sides are reset.
    BlackHole(Duration),
}

/// What becomes of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// The number of bytes that pass, both directions together.
    pub(crate) bytes: u64,
    pub(crate) end: End,
    pub(crate) stall: Option<Stall>,
}

/// Nothing is read or passed on for a while; then the connection goes on as if nothing had been.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    /// The number of bytes that pass before the stall, both directions together.
    pub(crate) at: u64,
    /// How long the stall takes; `None`: until [`Proxy::go_on`].
    pub(crate) wait: Option<Duration>,
}

/// What has happened to all connections so far.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) resets: AtomicU64,
    pub(crate) closes: AtomicU64,
    pub(crate) stalls: AtomicU64,
    /// Stalls that went on.
    pub(crate) gone_on: AtomicU64,
}

impl Fate {
    /// Lives for ever.
    pub(crate) const CALM: Self = Self { bytes: u64::MAX, end: End::Close, stall: None };

    /// Lets `bytes` bytes pass, then ends the connection with `end`.
    pub(crate) const fn cut(bytes: u64, end: End) -> Self {
        Self { bytes, end, stall: None }
    }
}

type Fates = Arc<Mutex<Box<dyn FnMut() -> Fate + Send>>>;

/// Listens, and passes on to a target that may change.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    connections: Arc<AtomicU64>,
    /// The bytes of the last connection that has ended.
    passed: Arc<AtomicU64>,
    counts: Arc<Counts>,
    /// One permit lets one stall go on.
    told: Arc<Semaphore>,
    accepts: JoinHandle<()>,
}

impl Proxy {
    /// Every connection has the fate that `fates` says.
    pub(crate) async fn start(
        target: SocketAddr,
        fates: impl FnMut() -> Fate + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let connections = Arc::new(AtomicU64::new(0));
        let passed = Arc::new(AtomicU64::new(0));
        let (counts, told) = (Arc::<Counts>::default(), Arc::new(Semaphore::new(0)));
        let fates: Fates = Arc::new(Mutex::new(Box::new(fates)));
        let accepts = tokio::spawn({
            let (target, connections) = (Arc::clone(&target), Arc::clone(&connections));
            let (passed, counts, told) =
                (Arc::clone(&passed), Arc::clone(&counts), Arc::clone(&told));
            async move {
                loop {
                    let Ok((client, _)) = listener.accept().await else {
                        continue;
                    };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let fate = fates.lock().unwrap()();
                    let target = *target.lock().unwrap();
                    let connection = Connection {
                        fate,
                        left: fate.bytes,
                        stall: fate.stall,
                        told: Arc::clone(&told),
                    };
                    let (passed, counts) = (Arc::clone(&passed), Arc::clone(&counts));
                    tokio::spawn(connection.pass(client, target, passed, counts));
                }
            }
        });
        Self { address, target, connections, passed, counts, told, accepts }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Lets one connection that waits to be told go on.
    pub(crate) fn go_on(&self) {
        self.told.add_permits(1);
    }

    pub(crate) fn set_target(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes the last connection that has ended has passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/live", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

struct Connection {
    fate: Fate,
    left: u64,
    /// Still to come.
    stall: Option<Stall>,
    told: Arc<Semaphore>,
}

impl Connection {
    async fn pass(
        mut self,
        client: TcpStream,
        target: SocketAddr,
        passed: Arc<AtomicU64>,
        counts: Arc<Counts>,
    ) {
        let Ok(server) = TcpStream::connect(target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let whole = self.pump(&client, &server, &counts).await.is_ok();
        passed.store(self.fate.bytes - self.left, Ordering::SeqCst);
        if whole && self.left > 0 {
            return;
        }
        match self.fate.end {
            End::Close => {
                counts.closes.fetch_add(1, Ordering::SeqCst);
                let ends = futures_util::future::join(finish(&client), finish(&server));
                let _ = tokio::time::timeout(LINGER, ends).await;
                return;
            }
            End::BlackHole(wait) => tokio::time::sleep(wait).await,
            End::Reset => {}
        }
        counts.resets.fetch_add(1, Ordering::SeqCst);
        for end in [&client, &server] {
            // Dropped with no time to linger: the kernel sends RST.
            let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
        }
    }

    /// Passes bytes on until an end or the budget.
    async fn pump(
        &mut self,
        client: &TcpStream,
        server: &TcpStream,
        counts: &Counts,
    ) -> io::Result<()> {
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        while self.left > 0 {
            self.stall(counts).await;
            let (from_client, read) = tokio::select! {
                read = read(client, &mut up) => (true, read?),
                read = read(server, &mut down) => (false, read?),
            };
            if read == 0 {
                return Ok(());
            }
            let buffer = if from_client { &up } else { &down };
            let to = if from_client { server } else { client };
            let mut bytes = &buffer[..read.min(whole(self.left))];
            while !bytes.is_empty() {
                let now = bytes.len().min(whole(self.until_stall()));
                write(to, &bytes[..now]).await?;
                self.left -= now as u64;
                bytes = &bytes[now..];
                self.stall(counts).await;
            }
        }
        Ok(())
    }

    /// How many bytes pass before the stall.
    fn until_stall(&self) -> u64 {
        let passed = self.fate.bytes - self.left;
        self.stall.map_or(u64::MAX, |stall| stall.at - passed)
    }

    /// Waits if it is time to.
    async fn stall(&mut self, counts: &Counts) {
        if self.until_stall() > 0 {
            return;
        }
        if let Some(stall) = self.stall.take() {
            counts.stalls.fetch_add(1, Ordering::SeqCst);
            match stall.wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => self.told.acquire().await.expect("never closed").forget(),
            }
            counts.gone_on.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Sends FIN and reads to the end: a socket dropped with something unread would send RST instead.
async fn finish(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).shutdown(Shutdown::Write);
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
