use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::soon;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header lines as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Returns the values of a header.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str())
    }

    /// Reads the body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Sends one request; `lines` are further header lines, each with its line end.
///
/// # Panics
///
/// Panics if no answer comes.
pub async fn request(addr: SocketAddr, method: &str, path: &str, lines: Option<&str>) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.expect("the server listens");
        let lines = lines.unwrap_or_default();
        let close = if lines.contains("connection:") { "" } else { "connection: close\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {addr}\r\n{close}content-length: 0\r\n{lines}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("the server answers");
        String::from_utf8(answer).expect("answers are text")
    };
    let text = soon("an HTTP answer", exchange).await;
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Answer { status: status.parse().expect("a number"), headers, body: body.to_owned() }
}
