//! A library that wants a transport runs on a session: tarpc, whose server and client take a stream and sink in one.
//!
//! Neither end of tarpc knows of the cuts: requests and answers that are under way arrive once each.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, routing::any};
use futures_util::{SinkExt as _, StreamExt as _, future};
use session_resume::{LiveSession, Message, Session, SessionResume};
use session_resume_axum::ResumeUpgrade;
use session_resume_testkit::{Page, TestServer, soon};
use tarpc::{
    client, context,
    server::{BaseChannel, Channel as _},
    transport,
};
use tokio::sync::{Notify, mpsc};

#[tarpc::service]
trait Calculator {
    /// Adds to the sum of this session, after a while.
    async fn add(n: u32) -> u32;
}

#[derive(Clone)]
struct Sums {
    session: Session<u32>,
    called: Arc<Notify>,
}

impl Calculator for Sums {
    async fn add(self, _: context::Context, n: u32) -> u32 {
        self.called.notify_one();
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.session.update(|sum| {
            *sum += n;
            *sum
        })
    }
}

async fn serve(live: LiveSession<u32>, called: Arc<Notify>) -> session_resume::Result {
    let sums = Sums { session: live.handle(), called };
    let transport = live
        .into_duplex()
        .map(|message| serde_json::from_slice(message.as_bytes()).map_err(io::Error::from))
        .sink_map_err(io::Error::other)
        .with(|answer: tarpc::Response<CalculatorResponse>| {
            future::ready(
                serde_json::to_string(&answer).map(Message::from).map_err(io::Error::from),
            )
        });
    BaseChannel::with_defaults(transport)
        .execute(sums.serve())
        .for_each_concurrent(None, std::convert::identity)
        .await;
    Ok(())
}

/// Makes a client of the service, whose messages go through a page. What is sent to `cuts` cuts its connection.
fn rpc_client(mut page: Page, mut cuts: mpsc::UnboundedReceiver<()>) -> CalculatorClient {
    let (ours, theirs) = transport::channel::unbounded();
    page.set_deadline(Duration::from_secs(24 * 3600));
    tokio::spawn(async move {
        let (mut answers, mut requests) = theirs.split();
        loop {
            tokio::select! {
                request = requests.next() => {
                    let Some(Ok(request)) = request else { return };
                    let request: tarpc::ClientMessage<CalculatorRequest> = request;
                    page.send(serde_json::to_string(&request).unwrap());
                }
                answer = page.recv() => {
                    let answer: tarpc::Response<CalculatorResponse> =
                        serde_json::from_str(&answer).unwrap();
                    answers.send(answer).await.unwrap();
                }
                cut = cuts.recv() => {
                    let Some(()) = cut else { return };
                    page.cut().await;
                }
            }
        }
    });
    let client::NewClient { client, dispatch } =
        CalculatorClient::new(client::Config::default(), ours);
    tokio::spawn(dispatch);
    client
}

#[tokio::test(start_paused = true)]
async fn calls_of_tarpc_go_on_across_cuts() {
    let (called, resume) = (Arc::new(Notify::new()), SessionResume::new());
    let resume = resume.with_memory_state(|_| 0_u32);
    let server = TestServer::new({
        let (called, resume) = (Arc::clone(&called), resume.clone());
        move || {
            let called = Arc::clone(&called);
            let live = any(async move |upgrade: ResumeUpgrade<u32>| {
                upgrade.on_session(move |live| serve(live, called))
            });
            Router::new().route("/live", live).layer(resume.clone())
        }
    });
    let (cut, cuts) = mpsc::unbounded_channel();
    let rpc = rpc_client(server.browser().open("/live").await, cuts);
    let call = async |n| rpc.add(context::current(), n).await.unwrap();
    assert_eq!(soon("a call", call(1)).await, 1);
    called.notified().await;
    // The connection is cut while the server works on a call.
    for n in 1..=3_u32 {
        let cut = async {
            called.notified().await;
            cut.send(()).unwrap();
        };
        let (sum, ()) = soon("the answer", future::join(call(n), cut)).await;
        assert_eq!(sum, 1 + n * (n + 1) / 2);
    }
    // And while requests and answers are on their way.
    let cut = async {
        called.notified().await;
        cut.send(()).unwrap();
    };
    let calls = future::join_all((0..50).map(|_| call(1)));
    let (mut sums, ()) = soon("the answers", future::join(calls, cut)).await;
    sums.sort_unstable();
    assert_eq!(sums, (8..58).collect::<Vec<_>>(), "each call was made once");
    assert_eq!(resume.sessions().len(), 1, "in one session");
}
