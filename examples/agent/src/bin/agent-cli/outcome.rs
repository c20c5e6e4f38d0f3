//! Asks for what became of a session, with no socket: `GET /sessions/{id}`.

use std::fmt;

use agent_app::script::Report;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How a session has ended.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Outcome {
    status: String,
    result: Option<Report>,
    error: Option<String>,
}

impl Outcome {
    /// Returns the outcome, or `None` if there is none (yet, or no more).
    ///
    /// One request on one connection: an HTTP client would be more than this example needs. A server that is
    /// not there knows nothing either; the socket says so, and waits for it.
    pub(crate) async fn poll(
        server: &str,
        session: &str,
        cookies: &str,
    ) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let Ok(mut socket) = TcpStream::connect(server).await else {
            return Ok(None);
        };
        let request = format!(
            "GET /sessions/{session} HTTP/1.1\r\nhost: {server}\r\ncookie: {cookies}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Self::parse(&answer)
    }

    fn parse(answer: &str) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the server's answer is cut off")?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(Some(serde_json::from_str(body)?)),
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.status)?;
        if let Some(report) = &self.result {
            let how = match report {
                Report { stopped: true, .. } => "stopped",
                Report { approved: true, .. } => "approved",
                _ => "denied",
            };
            let Report { task, files, words, .. } = report;
            write!(f, "; \u{201c}{task}\u{201d}, {how}; {files} files read, {words} words")?;
        }
        if let Some(error) = &self.error {
            write!(f, "; {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_outcome_or_none_yet() {
        let parse = |answer| Outcome::parse(answer).map(|outcome| outcome.map(|o| o.to_string()));
        let failed =
            "HTTP/1.1 200 OK\r\n\r\n{\"session\":\"x\",\"status\":\"failed\",\"error\":\"no\"}";
        assert_eq!(parse(failed).unwrap().unwrap(), "failed; no");
        let done = "HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"status\":\"done\",\"result\":{\"task\":\"t\",\
                    \"approved\":true,\"files\":6,\"words\":9,\"summary\":\"\"}}";
        assert_eq!(
            parse(done).unwrap().unwrap(),
            "done; \u{201c}t\u{201d}, approved; 6 files read, 9 words"
        );
        assert_eq!(parse("HTTP/1.1 202 Accepted\r\n\r\n{\"status\":\"running\"}").unwrap(), None);
        assert_eq!(parse("HTTP/1.1 404 Not Found\r\n\r\n{}").unwrap(), None);
        assert!(
            parse("HTTP/1.1 200 OK\r\n").is_err() && parse("HTTP/1.1 200 OK\r\n\r\n{").is_err()
        );
    }
}
