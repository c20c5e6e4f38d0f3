//! Sessions on Redis or Valkey: a store of session-resume that several processes share.
//!
//! ```no_run
//! use session_resume::SessionResume;
//! use session_resume_redis::RedisStore;
//! # #[derive(Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter { clicks: u64 }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store = RedisStore::connect("redis://user:password@redis:6379").await?;
//! let layer = SessionResume::new().with_state::<Counter>().with_store(store);
//! # drop(layer);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Redis from 7.0 on, and Valkey: one server, a primary with replicas whose address stays the same, a primary that
//! [Sentinels](#sentinel) watch, or a [cluster](#cluster). [`builder`](RedisStore::builder) has the forms of URLs.
//!
//! | feature (none is on by default) | what it adds |
//! | --- | --- |
//! | `sentinel` | `redis-sentinel://` URLs |
//! | `cluster` | `redis-cluster://` URLs |
//! | `tls` | `rediss://`, `rediss-sentinel://` and `rediss-cluster://` URLs, with rustls; see [Security](#security) |
//!
//! # Several processes
//!
//! Any process can go on with any session. A process that needs one takes it over from the store, and a handler that
//! still lives in another process ends at its next commit. That is right in every fault, and useful behind a load
//! balancer with *sticky* sessions: then a deploy, or a process that dies, is to the client a connection that drops.
//! Without sticky sessions each request that reaches another process ends a running handler; give the store to
//! `SessionResume::with_cluster` instead of `with_store`, and a request is sent to the process that has its session
//! ([`several_nodes`](session_resume::docs::several_nodes)).
//!
//! All processes need the same layer name and the same prefix. They share the key that signs cookies: the first one puts
//! it into the engine.
//!
//! # Choosing a store
//!
//! | | `MemoryStore` | `RedbStore` | `RedisStore` |
//! | --- | --- | --- | --- |
//! | is for | tests | one process on one machine | several processes or machines |
//! | needs | nothing | a disk that stays | a Redis or Valkey server |
//! | a session survives the end of its process | no | yes | yes |
//! | a message that was acknowledged survives `kill -9` | no | yes | yes |
//! | … and a power failure | no | yes | as the engine's `appendfsync` says, see below |
//! | … and the loss of the machine | no | no | with replicas, see below |
//! | what a commit waits for | nothing | one sync for all that waits | one round trip for all that waits |
//! | a deploy without overlap of old and new process | | needed: the file has a lock | not needed |
//! | bounds what is stored (`Limits::max_stored`) | yes | yes | no: the engine's `maxmemory` does |
//!
//! # Configure the engine
//!
//! [`connect`](RedisStore::connect) reads the configuration. It refuses what loses sessions without a fault, and warns
//! of what loses them in one.
//!
//! | setting | why | otherwise |
//! | --- | --- | --- |
//! | `maxmemory-policy noeviction` | a full engine that evicts throws sessions away, and no client is told | refused |
//! | `save ""` or `stop-writes-on-bgsave-error no` | after a snapshot that fails (no disk, no memory for `fork`) the engine refuses all writes | refused |
//! | `appendonly yes` | a restart of the engine brings all sessions back | warned of |
//! | `appendfsync always` | what is acknowledged is on the disk; with `everysec` a power failure takes up to 2 s | warned of |
//! | `min-replicas-to-write 1`, with replicas | a primary that is cut off stops taking writes that a failover would lose | warned of |
//! | `cluster-require-full-coverage no`, in a cluster | the nodes that work go on when a part of the slots has no node | warned of |
//!
//! A managed engine often refuses `CONFIG`. The store then warns; [`assume_configured`](Builder::assume_configured) says
//! that the operator has looked. When the engine is full, sessions that do not grow go on, others are refused as
//! [`Full`](session_resume::store::ErrorKind::Full), and nothing stored is lost.
//!
//! This user can do what the store needs, and nothing else:
//!
//! ```text
//! user resume on >PASSWORD ~sr:* resetchannels -@all +hello +select +script|load +eval +evalsha
//!   +get +set +getrange +strlen +pttl +pexpire +del +wait +info +config|get
//! ```
//!
//! Nodes of `with_cluster` need `+del +zadd +zrange +zrem +zcard +time`, too. In a cluster it needs `+cluster|slots +cluster|myid +asking`, too. A user of Sentinels needs `+hello +sentinel`.
//!
//! # What a failover can lose
//!
//! | set-up | what is lost, and when |
//! | --- | --- |
//! | one server, `appendfsync always` | nothing, unless its disk is lost |
//! | one server, `appendfsync everysec` | up to 2 s before a power failure |
//! | one server, `appendonly no` | when the engine restarts: sessions that are in no process's memory, and what was acknowledged of one whose process dies before its next commit |
//! | replicas | what the replica did not have yet when the primary failed, also if it was acknowledged |
//! | … with Sentinels | the same: a failover of theirs takes what the replica did not have, and nothing else |
//! | … in a cluster | the same, for the slots of the node that failed; a primary that is cut off takes writes for up to `cluster-node-timeout` |
//! | replicas and [`with_replicas(n)`](Builder::with_replicas) | nothing while one of those `n` lives: each commit waits until `n` have it. Give `n` = the number of replicas if a failover may choose any of them |
//!
//! A session that is in a process's memory when its record is lost, or has become an older one, puts it again with its next
//! commit. (If another process had just taken that session over when the engine lost everything, the two do not know of each
//! other until both have put; what the older one has acknowledged in between is taken back, and its client is told.)
//! Until it is put again, a client that comes to another process is given a new session.
//!
//! # Sentinel
//!
//! Each time the store needs a connection, it asks all Sentinels of the URL where the primary is, and takes the latest of
//! what most of them say: one that is cut off from the others may still name the primary of before. It waits half of the
//! dial's time for most of them, and then believes those that have answered. What the store is connected to says by itself
//! that it is the primary no more (`READONLY`, or the end of the connection). A primary that is cut off from its Sentinels
//! and not from the store says nothing: `min-replicas-to-write` ends that.
//!
//! # Cluster
//!
//! The store has two connections to each node that has slots. Records of one session need no common slot. Which node has
//! which slot is asked when a connection is made, when a node is not reached, and when a node says that a slot has
//! moved.
//!
//! A call that a node has answered with `MOVED` or `ASK` was not executed, so it is sent on to the node that is named: up
//! to 8 times, with pauses from the third time on, and within its deadline. A call whose answer is lost is not sent
//! again, as everywhere. Slots can be moved under load: no call fails. When a node is away, calls for its slots wait for it, or for
//! the replica that takes its place; calls for others go on.
//!
//! A program starts when every node that has slots is reached. Each node has two marks of its own, by which it is known that
//! it has lost its data.
//!
//! # When the engine is away
//!
//! A call ends within [`with_timeout`](Builder::with_timeout) (5 s), from the moment it was made, dialling included. Calls wait
//! meanwhile for a new connection; a call of which it is not known whether it has happened fails, and is not sent again
//! by itself. Only the newest record of each session waits. The layer tries again later. The store dials by itself after
//! whatever it was: a restart, a failover behind the same address (`READONLY`), an engine that loads, silence, a password
//! that was wrong for a while, too many clients.
//!
//! | [`ErrorKind`](session_resume::store::ErrorKind) | what it means |
//! | --- | --- |
//! | `Stale`, `NotFound`, `TooLarge`, `Full` | refused, by the rules of [`SnapshotStore`](session_resume::store::SnapshotStore) |
//! | `Unavailable` | the engine was not reached, did not answer in time, or says that it does not write now |
//! | `Corrupt`, `TooNew` | what is under this key is not a record of this version; other keys go on |
//! | `Io` | the engine has answered with another error |
//!
//! # Security
//!
//! A client that can read the engine can read all sessions, and forge every cookie. Give the engine a password and no
//! public address; use `rediss://` (feature `tls`) where others could listen. User and password are in no log, error or
//! `Debug` output. Names of keys are hashes; a layer's name can be read in them.
//!
//! With TLS the certificates of the system's authorities are believed, or those that the program names
//! (`with_root_certificates`). Redis wants a certificate from its clients, too (`with_client_certificate`), unless it is
//! configured with `tls-auth-clients no`. Nodes of a cluster are dialled as they announce themselves, often by IP address: their certificates
//! must name that, or `cluster-preferred-endpoint-type hostname` makes them say their host names.

mod address;
mod builder;
mod bundle;
mod call;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod engine;
mod error;
mod keys;
mod lane;
mod lua;
mod membership;
#[cfg(feature = "cluster")]
mod nodes;
mod queue;
mod record;
mod scripts;
#[cfg(feature = "sentinel")]
mod sentinel;
#[cfg(feature = "cluster")]
mod slots;
mod store;
mod target;

pub use self::{
    builder::Builder,
    error::{ConnectError, ConnectErrorKind},
    store::RedisStore,
};
