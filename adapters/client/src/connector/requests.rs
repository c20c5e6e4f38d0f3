//! Plain requests, for what does not go over a WebSocket.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use session_resume_proto::numbers::CHOICE_OPTIONS;
use tokio::task::JoinHandle;

use super::Connector;
use crate::{Cause, request::Target};

/// A connection for one request at a time. It is closed when dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connector {
    /// Opens a connection for requests.
    pub(crate) async fn http(&self, target: &Target) -> Result<Connection, Cause> {
        let stream = TokioIo::new(self.stream(target).await?);
        let (sender, connection) = http1::handshake(stream).await.map_err(|err| cause_of(&err))?;
        let driver = tokio::spawn(async move {
            // What has become of it is told to the request.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver })
    }

    /// Makes a request of the route, with what every request of this client has.
    pub(crate) fn http_request(&self, target: &Target, method: Method) -> Request<Full<Bytes>> {
        let path = target.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse::<Uri>().expect("it was one in the URL");
        let headers = request.headers_mut();
        headers.extend(target.headers.clone());
        let authority = target.url.authority().map_or("", |authority| authority.as_str());
        // Without the name of a user, as the handshake of a WebSocket has it.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = HeaderValue::try_from(host).expect("it was one in the URL");
        headers.insert(header::HOST, host);
        if let Some(cookies) = self.cookie_header() {
            headers.insert(header::COOKIE, cookies);
        }
        request
    }

    /// Returns whether a plain request of the route is answered soon, whatever the answer is. It touches no session.
    pub(crate) async fn answers(&self, target: &Target) -> bool {
        let request = self.http_request(target, Method::OPTIONS);
        let asked = async { self.http(target).await?.ask(request).await };
        tokio::time::timeout(CHOICE_OPTIONS, asked).await.is_ok_and(|answered| answered.is_ok())
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn ask(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Self), Cause> {
        self.sender.ready().await.map_err(|err| cause_of(&err))?;
        let response = self.sender.send_request(request).await.map_err(|err| cause_of(&err))?;
        Ok((response, self))
    }
}

fn cause_of(err: &hyper::Error) -> Cause {
    Cause::Unreachable(err.to_string().into())
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
