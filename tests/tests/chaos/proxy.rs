//! A proxy that does to connections what networks do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Both sides are reset: what was under way is lost.
    Reset,
    /// Both sides are closed: what was under way still arrives.
    Close,
    /// Nothing passes any more for so long, then both sides are reset.
    BlackHole(Duration),
}

/// What becomes of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// So many bytes pass, of both directions together.
    pub(crate) bytes: u64,
    pub(crate) end: End,
}

impl Fate {
    /// Lives for ever.
    pub(crate) const CALM: Self = Self { bytes: u64::MAX, end: End::Close };
}

type Fates = Arc<Mutex<Box<dyn FnMut() -> Fate + Send>>>;

/// Listens, and passes on to a target that may change.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    connections: Arc<AtomicU64>,
    /// The bytes of the last connection that has ended.
    passed: Arc<AtomicU64>,
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
        let fates: Fates = Arc::new(Mutex::new(Box::new(fates)));
        let accepts = tokio::spawn({
            let (target, connections, passed) =
                (Arc::clone(&target), Arc::clone(&connections), Arc::clone(&passed));
            async move {
                loop {
                    let Ok((client, _)) = listener.accept().await else {
                        continue;
                    };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let fate = fates.lock().unwrap()();
                    let target = *target.lock().unwrap();
                    tokio::spawn(pass(client, target, fate, Arc::clone(&passed)));
                }
            }
        });
        Self { address, target, connections, passed, accepts }
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

async fn pass(client: TcpStream, target: SocketAddr, fate: Fate, passed: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut left = fate.bytes;
    let whole = pump(&client, &server, &mut left).await.is_ok();
    passed.store(fate.bytes - left, Ordering::SeqCst);
    if whole && left > 0 {
        return;
    }
    if let End::BlackHole(wait) = fate.end {
        tokio::time::sleep(wait).await;
    }
    if fate.end != End::Close {
        for end in [&client, &server] {
            // Dropped with no time to linger: the kernel sends RST.
            let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Passes bytes on until an end or the budget.
async fn pump(client: &TcpStream, server: &TcpStream, left: &mut u64) -> io::Result<()> {
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    while *left > 0 {
        let (from_client, read) = tokio::select! {
            read = read(client, &mut up) => (true, read?),
            read = read(server, &mut down) => (false, read?),
        };
        if read == 0 {
            return Ok(());
        }
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(read);
        *left -= count as u64;
        if from_client {
            write(server, &up[..count]).await?;
        } else {
            write(client, &down[..count]).await?;
        }
    }
    Ok(())
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
