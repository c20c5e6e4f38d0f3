//! A lean WebSocket client, so that the server is what is measured: whole frames out of one buffer, no masking
//! work (the mask is zero, which is a mask all the same), acknowledgements as the protocol asks.

mod socketio;

use std::{
    io,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use self::socketio::Recovery;
use crate::peer;

/// A client acknowledges after at most this many messages.
const ACK_MESSAGES: u64 = 64;
/// A client acknowledges after at most this many bytes.
const ACK_BYTES: usize = 64 << 10;

/// A server in a process of its own. The process ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

/// What a server process says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) cpu: Duration,
    pub(crate) resident: f64,
}

/// What a server process has on its heap beyond what was there when it began to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    pub(crate) bytes: f64,
    pub(crate) allocations: f64,
}

impl Server {
    pub(crate) fn start(kind: &str) -> Self {
        Self::run(if kind == peer::KIND { peer::server() } else { Self::of_this(kind) })
    }

    /// Starts a program that tells its address in its first line.
    pub(crate) fn run(mut server: Command) -> Self {
        let mut child = server.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("a line");
        let addr = line.trim().parse().expect("the server tells its address");
        Self { child, addr }
    }

    /// This program, started again.
    fn of_this(kind: &str) -> Command {
        // One core for the server, one for the client.
        let threads = std::env::var("LOAD_THREADS").unwrap_or_else(|_| "1".to_owned());
        let this = std::env::current_exe().expect("a program knows its file");
        let mut server = Command::new(this);
        server.args(["serve", kind, &threads]);
        server
    }

    pub(crate) async fn stats(&self) -> Stats {
        let text = self.get("/stats").await;
        let (cpu, resident) = text.split_once(' ').expect("two numbers");
        Stats {
            cpu: Duration::from_micros(cpu.parse().expect("a number")),
            resident: resident.parse().expect("a number"),
        }
    }

    /// Returns what one of our servers has allocated since the first call, which returns nothing.
    pub(crate) async fn heap(&self) -> Heap {
        let text = self.get("/count").await;
        let (bytes, allocations) = text.split_once(' ').expect("two numbers");
        let [bytes, allocations] =
            [bytes, allocations].map(|number| number.parse().expect("a number"));
        Heap { bytes, allocations }
    }

    /// Makes a request on a connection of its own; returns the body.
    pub(crate) async fn get(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(self.addr).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = exchange.await.expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As any WebSocket client: answers pings.
    Plain,
    /// As a client that resumes; holds the rest of its offer.
    Resumable(String),
    /// As a client of Socket.IO: a new one, or one that comes back with this.
    SocketIo(Option<Recovery>),
}

impl Mode {
    /// A fresh offer. `client` tells the client from the others.
    pub(crate) fn fresh(client: usize) -> Self {
        Self::Resumable(format!("at.benchmark-{client:08}"))
    }

    fn target(&self, path: &str) -> String {
        match self {
            Self::Plain | Self::Resumable(_) => path.to_owned(),
            Self::SocketIo(_) => socketio::target(path),
        }
    }

    fn offer(&self) -> String {
        match self {
            Self::Plain | Self::SocketIo(_) => String::new(),
            Self::Resumable(offer) => {
                format!("sec-websocket-protocol: session-resume.v1, {offer}\r\n")
            }
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    mode: Mode,
    buffer: Vec<u8>,
    filled: usize,
    out: Vec<u8>,
    pub(crate) cookie: Option<String>,
    /// What the server says first, in a protocol in which it does.
    hello: Option<serde_json::Value>,
    /// The offset of the first event of Socket.IO.
    offset: Option<String>,
    position: u64,
    acknowledged: u64,
    unacknowledged_bytes: usize,
    /// All bytes that have come.
    pub(crate) received: u64,
    /// Whether the client acknowledges data. If it does not, the server sends the data again.
    pub(crate) acknowledges: bool,
}

impl Connection {
    pub(crate) async fn open(
        addr: SocketAddr,
        path: &str,
        mode: Mode,
        cookie: Option<&str>,
        buffer: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let cookie_line = cookie.map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {cookie_line}{}\r\n",
            mode.target(path),
            mode.offer()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut connection = Self {
            stream,
            mode,
            buffer: vec![0; buffer],
            filled: 0,
            out: Vec::new(),
            cookie: cookie.map(str::to_owned),
            hello: None,
            offset: None,
            position: 0,
            acknowledged: 0,
            unacknowledged_bytes: 0,
            received: 0,
            acknowledges: true,
        };
        connection.read_head().await?;
        Ok(connection)
    }

    async fn read_head(&mut self) -> io::Result<()> {
        loop {
            self.fill().await?;
            let head = &self.buffer[..self.filled];
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            assert!(text.starts_with("HTTP/1.1 101"), "{text}");
            let cookie = text.lines().find_map(|line| line.strip_prefix("set-cookie: "));
            if let Some(cookie) = cookie {
                self.cookie = cookie.split(';').next().map(str::to_owned);
            }
            self.consume(end + 4);
            return Ok(());
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
        self.filled += read;
        self.received += read as u64;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    /// Reads until there are data messages; returns how many there were. Answers what wants an answer before it
    /// waits for more.
    pub(crate) async fn receive(&mut self) -> io::Result<u64> {
        loop {
            let data = self.take_frames();
            if data > 0 {
                return Ok(data);
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Reads until `count` data messages have come.
    pub(crate) async fn receive_all(&mut self, count: u64) -> io::Result<()> {
        let mut received = 0;
        while received < count {
            received += self.receive().await?;
        }
        Ok(())
    }

    /// Reads until the hello has come, if one is to come, and with it perhaps data; returns how many messages.
    pub(crate) async fn greeted(&mut self) -> io::Result<u64> {
        let mut data = 0;
        while self.hello.is_none() && self.mode != Mode::Plain {
            data += self.take_frames();
            if self.hello.is_none() {
                self.flush().await?;
                self.fill().await?;
            }
        }
        Ok(data)
    }

    /// Queues text messages; they leave with [`flush`](Self::flush) or the next `receive`.
    pub(crate) fn queue_text(&mut self, payload: &[u8], count: u64) {
        let event = matches!(self.mode, Mode::SocketIo(_)).then(|| socketio::event(payload));
        let payload = event.as_deref().unwrap_or(payload);
        for _ in 0..count {
            push_frame(&mut self.out, 1, payload);
        }
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Makes the buffer hold frames of this size; what it holds now must fit.
    pub(crate) fn resize(&mut self, size: usize) {
        self.buffer.resize(size.max(self.filled), 0);
        self.buffer.shrink_to_fit();
    }

    /// Reads what has come, without waiting for more; then answers it and acknowledges all of it.
    pub(crate) async fn settle(&mut self) -> io::Result<()> {
        loop {
            match self.stream.try_read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.take_frames();
        }
        if matches!(self.mode, Mode::Resumable(_)) && self.acknowledged < self.position {
            self.acknowledge();
        }
        self.flush().await
    }

    /// How this client comes back, as if it had received nothing, or only the first event of Socket.IO.
    pub(crate) fn returning(&self) -> Option<Mode> {
        match &self.mode {
            Mode::Plain => Some(Mode::Plain),
            Mode::Resumable(fresh) => {
                let (client, hello) = (fresh.split('.').nth(1)?, self.hello.as_ref()?);
                let [session, epoch] = ["session", "epoch"].map(|name| hello[name].as_str());
                Some(Mode::Resumable(format!("at.{client}.{}.{}.0", session?, epoch?)))
            }
            Mode::SocketIo(_) => Some(Mode::SocketIo(Some(self.recovery()?))),
        }
    }

    fn take_frames(&mut self) -> u64 {
        let (mut at, mut data) = (0, 0);
        while let Some((opcode, start, end)) = frame(&self.buffer[at..self.filled]) {
            let payload = at + start..at + end;
            at += end;
            match opcode {
                1 if matches!(self.mode, Mode::SocketIo(_)) => {
                    data += u64::from(self.take_packet(payload));
                }
                1 | 2 if self.buffer.get(payload.start) == Some(&1) && !payload.is_empty() => {
                    self.handle_control(payload);
                }
                1 | 2 => {
                    data += 1;
                    self.position += 1;
                    self.unacknowledged_bytes += payload.len();
                }
                9 => push_frame(&mut self.out, 10, &self.buffer[payload]),
                8 => panic!("closed: {:?}", String::from_utf8_lossy(&self.buffer[payload])),
                _ => {}
            }
        }
        if at > 0 {
            self.consume(at);
        }
        let due = self.position - self.acknowledged >= ACK_MESSAGES
            || self.unacknowledged_bytes >= ACK_BYTES;
        if due && self.acknowledges && self.mode != Mode::Plain {
            self.acknowledge();
        }
        data
    }

    fn handle_control(&mut self, payload: std::ops::Range<usize>) {
        let text = &self.buffer[payload.start + 1..payload.end];
        // Acknowledgements need no answer, and reading them would be the client's cost.
        if !text.starts_with(b"{\"hello\"") {
            return;
        }
        let control: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        let hello = control["hello"].clone();
        self.position = hello["from"].as_u64().expect("a position");
        self.hello = Some(hello);
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        self.acknowledged = self.position;
        self.unacknowledged_bytes = 0;
        let text = format!("\u{1}{{\"ack\":{}}}", self.position);
        push_frame(&mut self.out, 1, text.as_bytes());
    }
}

/// Returns opcode, start and end of the payload of a whole frame.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (start, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => {
            let len = u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?);
            (10, usize::try_from(len).ok()?)
        }
        len => (2, usize::from(len)),
    };
    let end = start + len;
    (bytes.len() >= end).then_some((first & 0xf, start, end))
}

/// Writes a masked frame.
fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}
