//! A client that adds all the time, behind a balancer that sends it anywhere.

use std::{sync::Arc, time::Duration};

use session_resume_client::{Backoff, Client, Event, Status};
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{soon, tcp::Proxy};
use session_resume_tests::{Framework, Testee, scenarios};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::node::{node, node_with};

const HASTE: Backoff = Backoff { first: Duration::from_millis(2), max: Duration::from_millis(20) };

/// At most this many additions are unanswered.
const WINDOW: usize = 32;

pub(crate) struct Load {
    pub(crate) balancer: Proxy,
    client: Client,
    adding: Option<JoinHandle<()>>,
    window: Arc<Semaphore>,
    sent: u64,
}

impl Load {
    /// Begins at this node, with a session that is in the store.
    pub(crate) async fn start(at: &Testee) -> Self {
        let balancer = Proxy::start(at.addr).await;
        let url = format!("ws://{}/live", balancer.address());
        let mut client = Client::builder(url).with_backoff(HASTE).start().unwrap();
        client.send("commit").await.unwrap();
        loop {
            match soon("the first answer", client.recv_event()).await.expect("it goes on") {
                Event::Message(message) if message.as_text() == Some("committed") => break,
                Event::Connecting | Event::Open { .. } | Event::Waiting { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        Self { balancer, client, adding: None, window: Arc::new(Semaphore::new(WINDOW)), sent: 0 }
    }

    /// Sends `add 1` this many times, as fast as it is answered.
    pub(crate) fn add(&mut self, times: u64) {
        let (sender, room) = (self.client.sender(), Arc::clone(&self.window));
        self.sent += times;
        self.adding = Some(tokio::spawn(async move {
            for _ in 0..times {
                soon("room", room.acquire()).await.unwrap().forget();
                soon("a message leaves", sender.send("add 1")).await.unwrap();
            }
        }));
    }

    /// Waits for this many answers. `gapless`: nothing but `resumed` is right.
    pub(crate) async fn answers(&mut self, count: u64, gapless: bool) {
        for _ in 0..count {
            let told = self.told(gapless).await;
            assert!(told.starts_with("total:"), "{told}");
            self.window.add_permits(1);
        }
    }

    async fn told(&mut self, gapless: bool) -> String {
        loop {
            let event = soon("an answer", self.client.recv_event()).await;
            match event.expect("the client goes on") {
                Event::Message(message) => return message.as_text().expect("text").to_owned(),
                Event::InDoubt(messages) => panic!("in doubt: {messages:?}"),
                Event::Done { .. } | Event::Failed { .. } | Event::Superseded => {
                    panic!("it is over")
                }
                Event::Open { status, .. } if gapless => assert_eq!(status, Status::Resumed),
                Event::Gap(gap) if gapless => panic!("{gap:?}"),
                _ => {}
            }
        }
    }

    /// What follows lands at this node; connections that are there are cut.
    pub(crate) fn moves_to(&self, node: &Testee) {
        self.balancer.set_target(node.addr);
        drop(self.balancer.cut());
    }

    /// Each addition has counted once.
    pub(crate) async fn is_exact(&mut self) {
        if let Some(mut adding) = self.adding.take() {
            // Answers make room for those that are still to be sent.
            loop {
                tokio::select! {
                    done = &mut adding => break done.unwrap(),
                    told = self.told(false) => {
                        assert!(told.starts_with("total:"), "{told}");
                        self.window.add_permits(1);
                    }
                }
            }
        }
        self.client.send("get").await.unwrap();
        let counted = loop {
            let told = self.told(false).await;
            if told.contains(" n:") {
                break told;
            }
        };
        assert_eq!(counted, format!("total:{0} n:{0}", self.sent));
    }
}

/// 1: `kill -9` of the owner while its client adds; the client goes to the other node.
async fn additions_survive_the_death_of_each_owner(framework: Framework) {
    const KILLS: u64 = 4;
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let names = ["a", "b"];
    let mut nodes = [
        Some(node(&engine, framework, names[0]).await),
        Some(node(&engine, framework, names[1]).await),
    ];
    let mut load = Load::start(nodes[0].as_ref().unwrap()).await;
    load.add(100 * (KILLS + 1));
    for kill in 0..KILLS {
        load.answers(60, false).await;
        let (dies, lives) = ((kill % 2) as usize, ((kill + 1) % 2) as usize);
        nodes[dies].take().unwrap().kill().await;
        load.moves_to(nodes[lives].as_ref().unwrap());
        if kill % 2 == 0 {
            // It starts again under its name: nobody waits for a lease.
            nodes[dies] = Some(node(&engine, framework, names[dies]).await);
            load.answers(1, false).await;
        } else {
            // Its lease runs out.
            load.answers(1, false).await;
            nodes[dies] = Some(node(&engine, framework, names[dies]).await);
        }
    }
    load.is_exact().await;
}

/// 12: all nodes are drained, one after the other, under load. Nothing is lost, doubled, or told as a gap.
async fn a_rolling_restart_of_all_nodes_is_invisible(framework: Framework) {
    rolls(framework, "state").await;
    rolls(framework, "exact").await;
}

async fn rolls(framework: Framework, durability: &str) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let names = ["a", "b", "c"];
    let flags = format!("--durability {durability}");
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(node_with(&engine, framework, name, &flags).await);
    }
    let mut load = Load::start(&nodes[0]).await;
    load.add(100 * 7);
    for (turn, name) in names.into_iter().cycle().take(6).enumerate() {
        load.answers(60, true).await;
        let leaves = nodes.remove(0);
        leaves.terminate().await;
        // The balancer looks who is ready.
        load.balancer.set_target(nodes[turn % 2].addr);
        assert!(leaves.exit().await.success());
        nodes.push(node_with(&engine, framework, name, &flags).await);
    }
    load.is_exact().await;
}

scenarios!(additions_survive_the_death_of_each_owner, a_rolling_restart_of_all_nodes_is_invisible,);
