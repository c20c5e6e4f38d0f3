//! A client of a shared session loses its cookie: to the server it is another browser, which has its cursor.

use session_resume_client::{Client, CookieJar, Event, Limits, Transport};
use session_resume_testkit::{soon, tcp::Proxy};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::testee;

scenarios!(
    what_it_has_sent_is_in_doubt_and_handled_once,
    what_it_has_sent_is_in_doubt_and_handled_once_through_a_kill,
);

const SHARED: &str = "--key path --shared-key --attach share";

/// A client behind a proxy, and another one that sees what the session says.
struct Room {
    proxy: Proxy,
    jar: CookieJar,
    client: Client,
    other: Client,
}

impl Room {
    async fn start(testee: &Testee, transport: Transport) -> Self {
        let proxy = Proxy::start(testee.addr).await;
        let jar = CookieJar::new();
        let client = Client::builder(format!("ws://{}/live", proxy.address()));
        let client = client.with_cookie_jar(&jar).transports([transport]);
        let client = client.with_limits(Limits { messages: 2, ..Limits::default() });
        let mut client = client.start().unwrap();
        let is_open = |event| matches!(event, Some(Event::Open { .. }));
        while !is_open(soon("its hello", client.recv_event()).await) {}
        let other = Client::connect(format!("ws://{}/live", testee.addr)).await.unwrap();
        Self { proxy, jar, client, other }
    }

    /// The client has sent a message, and knows that the handler has taken it.
    async fn acknowledge(&mut self) {
        for message in ["add 2", "get", "get"] {
            // The third one finds room when the first one is acknowledged.
            soon("room", self.client.send(message)).await.unwrap();
        }
        for answer in ["total:2", "total:2 n:1", "total:2 n:1"] {
            assert_eq!(next(&mut self.client).await, answer);
        }
    }

    /// Lets the session take a message of which the client is not told so.
    async fn take_in_secret(&mut self, message: &str, answer: &str) {
        self.proxy.swallow();
        soon("room", self.client.send(message)).await.unwrap();
        while next(&mut self.other).await != answer {}
    }

    fn lose_cookie(&self) {
        let cookies = self.jar.header();
        let (name, _) = cookies.split_once('=').expect("the identity alone");
        self.jar.remove(name);
        assert_eq!(self.jar.header(), "");
    }

    /// The client comes back; returns what is in doubt, and what it hears until the answer to `get`.
    ///
    /// A `get` changes nothing, and may be in doubt as well.
    async fn come_back(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut in_doubt, mut heard) = (Vec::new(), Vec::new());
        let mut asked = false;
        loop {
            match soon("an event", self.client.recv_event()).await.expect("it goes on") {
                Event::Message(message) => {
                    heard.push(message.as_text().unwrap().to_owned());
                    if asked && heard.last().is_some_and(|told| told.contains(" n:")) {
                        return (in_doubt, heard);
                    }
                }
                Event::InDoubt(messages) => {
                    let told = messages.iter().map(|one| one.as_text().unwrap().to_owned());
                    in_doubt.extend(told.filter(|one| one != "get"));
                    self.client.send("get").await.unwrap();
                    asked = true;
                }
                Event::Connecting | Event::Open { .. } | Event::Waiting { .. } | Event::Gap(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn next(client: &mut Client) -> String {
    let message = soon("a message", client.recv()).await.unwrap();
    message.as_text().unwrap().to_owned()
}

async fn what_it_has_sent_is_in_doubt_and_handled_once(framework: Framework) {
    // Some of its messages were acknowledged, or none.
    for acknowledged in [false, true] {
        let testee = testee(framework, SHARED).await;
        let mut room = Room::start(&testee, Transport::WebSocket).await;
        let mut expected = ["total:5", "total:5 n:1"];
        if acknowledged {
            room.acknowledge().await;
            expected = ["total:7", "total:7 n:2"];
        }
        room.take_in_secret("add 5", expected[0]).await;
        room.lose_cookie();
        drop(room.proxy.cut());
        let (in_doubt, heard) = room.come_back().await;
        assert_eq!(in_doubt, ["add 5"], "{acknowledged}");
        assert_eq!(heard, expected, "{acknowledged}: its stream goes on");
        assert_ne!(room.jar.header(), "", "it has another cookie");
    }
}

/// A pipe goes on without a cookie as long as its process lives.
async fn what_it_has_sent_is_in_doubt_and_handled_once_through_a_kill(framework: Framework) {
    for transport in [Transport::WebSocket, Transport::Sse, Transport::Poll] {
        for durability in ["state", "exact"] {
            let dir = tempfile::tempdir().unwrap();
            let store = dir.path().join("sessions.redb");
            let flags = format!("{SHARED} --store {} --durability {durability}", store.display());
            let first = testee(framework, &flags).await;
            let mut room = Room::start(&first, transport).await;
            room.acknowledge().await;
            room.take_in_secret("add 5", "total:7").await;
            room.other.send("commit").await.unwrap();
            while next(&mut room.other).await != "committed" {}
            room.lose_cookie();
            first.kill().await;
            let second = testee(framework, &flags).await;
            room.proxy.set_target(second.addr);
            drop(room.proxy.cut());
            let (in_doubt, heard) = room.come_back().await;
            assert_eq!(in_doubt, ["add 5"], "{transport:?} {durability}");
            let total = heard.last().unwrap();
            assert_eq!(total, "total:7 n:2", "{transport:?} {durability}: {heard:?}");
        }
    }
}
