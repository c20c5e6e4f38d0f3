use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Nothing here takes this long. The limit only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

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
    Silence,
    /// The client is reset. What was held stays here, with the connection to the server.
    Cut,
    /// After [`Cut`](Self::Cut): what was held is sent on.
    Release,
}

/// Listens, and passes on to a server, unless it is told otherwise.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepts: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    /// What new connections begin with.
    order: Order,
    links: Vec<Link>,
    /// How many connections there were.
    count: usize,
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
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Shared { target, order: Order::Pass, links: Vec::new(), count: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let accepts = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    if let Ok((client, _)) = listener.accept().await {
                        lock(&shared).add(client);
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

    /// The URL of the server's first database, by way of this proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Leads new connections to another server.
    pub fn set_target(&self, target: SocketAddr) {
        lock(&self.shared).target = target;
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.shared).count
    }

    /// What clients say from now on on the present connections is kept here.
    pub fn hold(&self) {
        self.tell(Order::Hold);
    }

    /// What the server answers from now on on the present connections is thrown away.
    pub fn swallow(&self) {
        self.tell(Order::Swallow);
    }

    /// From now on nothing passes, on no connection.
    pub fn silence(&self) {
        lock(&self.shared).order = Order::Silence;
        self.tell(Order::Silence);
    }

    /// Everything passes again; what was held goes first.
    pub fn pass(&self) {
        lock(&self.shared).order = Order::Pass;
        self.tell(Order::Pass);
    }

    /// New connections pass; on those that are there nothing passes, for ever.
    pub fn pass_new(&self) {
        lock(&self.shared).order = Order::Pass;
    }

    /// Resets all clients. What was held can be let go later.
    pub fn cut(&self) -> Late {
        let links = std::mem::take(&mut lock(&self.shared).links);
        for link in &links {
            let _ = link.order.send(Order::Cut);
        }
        Late(links)
    }

    /// Resets the clients of which something is held, and lets everything of the others pass.
    pub fn cut_held(&self) -> Late {
        let mut shared = lock(&self.shared);
        let links = std::mem::take(&mut shared.links);
        let (cut, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.held() > 0);
        for link in &others {
            let _ = link.order.send(Order::Pass);
        }
        shared.links = others;
        for link in &cut {
            let _ = link.order.send(Order::Cut);
        }
        Late(cut)
    }

    /// Waits until something is held, and until nothing more comes.
    ///
    /// # Panics
    ///
    /// If nothing comes.
    pub async fn held(&self) {
        tokio::time::timeout(PATIENCE, self.hold_something()).await.expect("something is held");
    }

    async fn hold_something(&self) {
        let mut before = 0;
        loop {
            let held = lock(&self.shared).links.iter().map(Link::held).sum();
            if held > 0 && held == before {
                return;
            }
            before = held;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn tell(&self, order: Order) {
        for link in &lock(&self.shared).links {
            let _ = link.order.send(order);
        }
    }
}

impl Late {
    /// Lets arrive what was held, and returns when the server has answered it.
    pub async fn arrive(self) {
        for link in self.0 {
            let _ = link.order.send(Order::Release);
            let _ = link.task.await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        for link in &lock(&self.shared).links {
            link.task.abort();
        }
    }
}

impl Shared {
    fn add(&mut self, client: TcpStream) {
        let (order, orders) = watch::channel(self.order);
        let held = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(pass_on(client, self.target, orders, Arc::clone(&held)));
        self.links.retain(|link| !link.task.is_finished());
        self.links.push(Link { order, held, task });
        self.count += 1;
    }
}

impl Link {
    fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// Also what was read in the moment of the order to stop reading.
fn holds(order: Order) -> bool {
    matches!(order, Order::Hold | Order::Silence | Order::Cut)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_on(
    client: TcpStream,
    target: SocketAddr,
    mut orders: watch::Receiver<Order>,
    held: Arc<AtomicUsize>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client, mut server) = (client, server);
    let (mut kept, mut answers) = (Vec::new(), Vec::new());
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let order = *orders.borrow_and_update();
        if order == Order::Cut {
            break;
        }
        if order == Order::Pass && !kept.is_empty() {
            let sent = server.write_all(&std::mem::take(&mut kept)).await;
            held.store(0, Ordering::SeqCst);
            if sent.is_err() {
                return;
            }
        }
        if order == Order::Pass
            && !answers.is_empty()
            && client.write_all(&std::mem::take(&mut answers)).await.is_err()
        {
            return;
        }
        let reads = order != Order::Silence;
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            // What counts is the order when it was read, not when the wait began.
            read = client.read(&mut up), if reads => match read {
                Ok(1..) if holds(*orders.borrow()) => {
                    kept.extend_from_slice(&up[..read.unwrap_or(0)]);
                    held.store(kept.len(), Ordering::SeqCst);
                }
                Ok(read @ 1..) => if server.write_all(&up[..read]).await.is_err() { return },
                // The client has gone; what was held may still be wanted.
                _ if kept.is_empty() => return,
                _ => break,
            },
            read = server.read(&mut down), if reads => match read {
                Ok(1..) if *orders.borrow() == Order::Swallow => {}
                Ok(read @ 1..) if *orders.borrow() == Order::Silence => {
                    answers.extend_from_slice(&down[..read]);
                }
                Ok(read @ 1..) => if client.write_all(&down[..read]).await.is_err() { return },
                _ => return,
            },
        }
    }
    // Dropped with no time to linger: the kernel sends RST.
    let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    drop(client);
    if kept.is_empty() {
        return;
    }
    if orders.wait_for(|order| *order == Order::Release).await.is_err() {
        return;
    }
    if server.write_all(&kept).await.is_ok() {
        let _ = server.read(&mut down).await;
    }
}
