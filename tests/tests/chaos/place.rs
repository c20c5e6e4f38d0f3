//! Where the server keeps its sessions.

use session_resume_engine::{Engine, without_redis};
use tempfile::TempDir;

/// A store of the test's own. It is deleted when this value is dropped.
pub(crate) enum Place {
    File(TempDir),
    Redis(Box<Engine>),
}

impl Place {
    pub(crate) fn redb() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    /// One that has on disk what it has acknowledged; `None` where Redis tests are left out.
    pub(crate) fn redis() -> Option<Self> {
        (!without_redis()).then(|| Self::Redis(Box::new(Engine::durable())))
    }

    /// The value of `--store`.
    pub(crate) fn flag(&self) -> String {
        match self {
            Self::File(folder) => folder.path().join("store.redb").to_str().unwrap().to_owned(),
            Self::Redis(engine) => engine.url(),
        }
    }
}

/// Makes a test of each scenario, an `async fn(Place)`, for each store.
macro_rules! on_each_store {
    ($($name:ident),* $(,)?) => {
        mod on_redb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::place::Place::redb()).await;
                }
            )*
        }

        mod on_redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(place) = crate::place::Place::redis() {
                        super::$name(place).await;
                    }
                }
            )*
        }
    };
}
pub(crate) use on_each_store;
