//! The rules of every store, also when connections are lost and calls arrive late.

use std::pin::Pin;

use session_resume::store::contract::{self, Call, Late, Wire};
use session_resume_engine::{Engine, Flavour, without_redis};
use session_resume_redis::RedisStore;
use session_resume_testkit::tcp::Proxy;

use crate::support::url;

/// What is between a store and its engine.
struct Disturbed(Proxy);

impl Wire for Disturbed {
    // What is returned is a future for later.
    #[allow(clippy::async_yields_async)]
    fn hold<'a>(&'a self, call: Call<'a>) -> Pin<Box<dyn Future<Output = Late<'a>> + Send + 'a>> {
        Box::pin(async move {
            self.0.hold();
            let cut = async {
                self.0.held().await;
                // Only that one: other calls arrive meanwhile.
                self.0.cut_held()
            };
            let (told, late) = futures_util::future::join(call, cut).await;
            assert!(told.is_err(), "its connection was lost, and it is told that it has happened");
            Box::pin(late.arrive()) as Late<'a>
        })
    }
}

async fn check(flavour: Flavour) {
    let engine = Engine::with(flavour, &["--appendonly", "yes", "--appendfsync", "always"]);
    let wire = Disturbed(Proxy::start(engine.address()).await);
    let store = RedisStore::connect(url(&wire.0)).await.unwrap();
    contract::check_over(&store, &wire).await;
    contract::check_reopen(async || RedisStore::connect(engine.url()).await.unwrap()).await;
    let other = RedisStore::connect(engine.url()).await.unwrap();
    contract::check_cluster(&store, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_redis() {
    if without_redis() {
        return;
    }
    check(Flavour::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_valkey() {
    if !Flavour::Valkey.is_there() {
        eprintln!("left out: VALKEY_SERVER names no server");
        return;
    }
    check(Flavour::Valkey).await;
}
