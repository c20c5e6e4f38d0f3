use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A TCP proxy that breaks connections at byte offsets, all from one seed.
///
/// Each connection ends after a number of bytes in both directions together, by a reset or an orderly end. Some
/// stall for a moment, and some become a black hole before they end.
#[derive(Debug)]
pub struct Chaos {
    /// Where it listens.
    pub addr: SocketAddr,
    flaps: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Bytes in both directions until something happens.
    bytes: u64,
    stalls: bool,
    black_hole: bool,
    reset: bool,
}

impl Chaos {
    /// Starts a proxy in front of `server`; `longest` is how many bytes a connection lives at most. After
    /// `calm_after` connections the network is calm.
    ///
    /// # Panics
    ///
    /// Panics if there is no port to listen on.
    pub async fn start(server: SocketAddr, seed: u64, longest: u64, calm_after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let flaps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&flaps);
        let task = tokio::spawn(async move {
            let mut random = seed | 1;
            while let Ok((client, _)) = listener.accept().await {
                let calm = counted.load(Ordering::Relaxed) >= calm_after;
                let fate = (!calm).then(|| Fate::draw(&mut random, longest));
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let _ = relay(client, server, fate).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { addr, flaps, task }
    }

    /// Returns how many connections have ended.
    pub fn flaps(&self) -> u64 {
        self.flaps.load(Ordering::Relaxed)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fate {
    fn draw(random: &mut u64, longest: u64) -> Self {
        let mut next = || {
            // xorshift64: small, and the same everywhere.
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            *random
        };
        Self {
            bytes: next() % longest,
            stalls: next().is_multiple_of(8),
            black_hole: next().is_multiple_of(8),
            reset: next().is_multiple_of(2),
        }
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, fate: Option<Fate>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let Some(fate) = fate else {
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
    let mut left = fate.bytes;
    while left > 0 {
        let (read, to, buffer) = tokio::select! {
            read = client.read(&mut up) => (read?, &mut server, &up),
            read = server.read(&mut down) => (read?, &mut client, &down),
        };
        if read == 0 {
            break;
        }
        let passes = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        to.write_all(&buffer[..passes]).await?;
        left -= passes as u64;
    }
    if fate.stalls {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if fate.black_hole {
        // Both ends are alive and hear nothing.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if fate.reset {
        for end in [&client, &server] {
            let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
        }
    }
    Ok(())
}
