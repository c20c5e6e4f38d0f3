//! The command line.

use std::{fmt::Display, str::FromStr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use lexopt::{Arg, ValueExt as _};
use session_resume::{
    AllowedOrigins, Attach, CatchUp, Cluster, Durability, Elsewhere, Heartbeat, Http,
    IdentityCookie, Limits, MergePolicy, Overflow, PlainAck, Retain, SameSite, SessionResume,
    Unreadable,
    adapter::Door,
    key::{self, KeyFn},
    reuse::{self, ReusePolicy},
    store::NodeInfo,
};

use session_resume_redb::RedbStore;
use session_resume_redis::RedisStore;

use crate::{shim::Shim, tally::Tally};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Framework {
    Axum,
    Warp,
}

/// What the command line says. What it does not say is the library's default, but for `--reuse`, which is `always`.
#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) framework: Framework,
    pub(crate) listen: String,
    attach: Option<Attach>,
    overflow: Option<Overflow>,
    key: Option<KeyFn>,
    shared_key: bool,
    reuse: ReusePolicy,
    unreadable: Unreadable,
    plain_ack: Option<PlainAck>,
    catch_up: CatchUp,
    retain: Retain,
    retain_bytes: Option<usize>,
    unused_lifetime: Option<Duration>,
    check_interval: Option<Duration>,
    outcome_lifetime: Option<Duration>,
    heartbeat: Heartbeat,
    limits: Limits,
    store: Option<String>,
    durability: Option<Durability>,
    flush: Option<Duration>,
    store_timeout: Option<Duration>,
    merge_newest: bool,
    stored_lifetime: Option<Duration>,
    origins: AllowedOrigins,
    secret: Option<[u8; 64]>,
    cookie: Option<String>,
    /// The cookie is one for frames of other sites.
    partitioned: bool,
    http: Http,
    plain_http: bool,
    door: Option<Door>,
    streams_shim: bool,
    pub(crate) cluster: Option<ClusterFlags>,
}

/// What makes the testee one of several nodes.
#[derive(Debug, Default)]
pub(crate) struct ClusterFlags {
    url: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) hops: Option<String>,
    lease: Option<Duration>,
    replicas: u32,
    max_relays: Option<usize>,
    elsewhere: Elsewhere,
}

/// Where sessions are read by readers of Durable Streams.
#[derive(Clone)]
pub(crate) struct Doors {
    /// `/streams/{id}`.
    pub(crate) door: Option<Door>,
    /// `/v1/stream/{name}`.
    pub(crate) shim: Option<Arc<Shim>>,
}

impl Flags {
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut flags = Self {
            framework: Framework::Axum,
            listen: "127.0.0.1:0".to_owned(),
            attach: None,
            overflow: None,
            key: None,
            shared_key: false,
            reuse: reuse::always(),
            unreadable: Unreadable::default(),
            plain_ack: None,
            catch_up: CatchUp::default(),
            retain: Retain::nothing(),
            retain_bytes: None,
            unused_lifetime: None,
            check_interval: None,
            outcome_lifetime: None,
            heartbeat: Heartbeat::default(),
            limits: Limits::default(),
            store: None,
            durability: None,
            flush: None,
            store_timeout: None,
            merge_newest: false,
            stored_lifetime: None,
            origins: AllowedOrigins::same_origin(),
            secret: None,
            cookie: None,
            partitioned: false,
            http: Http::default(),
            plain_http: false,
            door: None,
            streams_shim: false,
            cluster: None,
        };
        while let Some(arg) = args.next()? {
            let Arg::Long(name) = arg else {
                return Err(arg.unexpected());
            };
            let name = name.to_owned();
            if name == "shared-key" {
                flags.shared_key = true;
                continue;
            }
            if name == "partitioned" {
                flags.partitioned = true;
                continue;
            }
            if name == "plain-http" {
                flags.plain_http = true;
                continue;
            }
            if name == "streams-shim" {
                flags.streams_shim = true;
                continue;
            }
            if !flags.set(&name, &mut args)? {
                return Err(format!("flag --{name} is not supported").into());
            }
        }
        flags.check_cluster()?;
        Ok(flags)
    }

    /// Sets a flag that has a value; returns whether there is such a flag.
    fn set(&mut self, name: &str, args: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
        match name {
            "framework" => {
                let words = [("axum", Framework::Axum), ("warp", Framework::Warp)];
                self.framework = word(name, args, &words)?;
            }
            "listen" => self.listen = args.value()?.string()?,
            "attach" => {
                let words = [
                    ("takeover", Attach::Takeover),
                    ("share", Attach::Share),
                    ("refuse", Attach::Refuse),
                ];
                self.attach = Some(word(name, args, &words)?);
            }
            "overflow" => {
                let words = [
                    ("backpressure", Overflow::Backpressure),
                    ("drop-oldest", Overflow::DropOldest),
                    ("close", Overflow::Close),
                ];
                self.overflow = Some(word(name, args, &words)?);
            }
            "key" => self.key = Some(key(&args.value()?.string()?)?),
            "reuse" => {
                let words = [
                    ("always", reuse::always()),
                    ("never", reuse::never()),
                    ("if-idle", reuse::if_idle()),
                    // The library's, which says nothing of a state that cannot be read.
                    ("default", ReusePolicy::default()),
                ];
                self.reuse = word(name, args, &words)?;
            }
            "unreadable" => {
                let words = [("refuse", Unreadable::Refuse), ("start-anew", Unreadable::StartAnew)];
                self.unreadable = word(name, args, &words)?;
            }
            "plain-ack" => {
                let words = [("trust", PlainAck::Trust), ("off", PlainAck::Off)];
                self.plain_ack = Some(word(name, args, &words)?);
            }
            "catch-up" => {
                self.catch_up = CatchUp::FromCheckpoint { after: number(name, args)? };
            }
            "retain" => self.retain = retain(&args.value()?.string()?)?,
            "retain-bytes" => self.retain_bytes = Some(number(name, args)?),
            "store" => self.store = Some(args.value()?.string()?),
            "durability" => {
                let words = [("state", Durability::State), ("exact", Durability::Exact)];
                self.durability = Some(word(name, args, &words)?);
            }
            "flush" => self.flush = Some(millis(name, args)?),
            "store-timeout" => self.store_timeout = Some(millis(name, args)?),
            "merge" => {
                self.merge_newest = word(name, args, &[("server", false), ("newest", true)])?;
            }
            "stored-lifetime" => self.stored_lifetime = Some(millis(name, args)?),
            "unused-lifetime" => self.unused_lifetime = Some(millis(name, args)?),
            "check-interval" => self.check_interval = Some(millis(name, args)?),
            "outcome-lifetime" => self.outcome_lifetime = Some(millis(name, args)?),
            "ping" => self.heartbeat.interval = some_millis(name, args)?,
            "pong-timeout" => {
                let timeout = some_millis(name, args)?;
                self.heartbeat.pong_timeout = timeout;
                self.heartbeat.plain_pong_timeout = timeout;
            }
            "max-lifetime" => self.limits.max_lifetime = Some(millis(name, args)?),
            "max-unattended" => self.limits.max_unattended = millis(name, args)?,
            "outbox-messages" => self.limits.outbox_messages = number(name, args)?,
            "outbox-bytes" => self.limits.outbox_bytes = number(name, args)?,
            "inbox-messages" => self.limits.inbox_messages = number(name, args)?,
            "max-message" => self.limits.message = number(name, args)?,
            "max-sessions" => self.limits.max_sessions = number(name, args)?,
            "max-stored" => self.limits.max_stored = number(name, args)?,
            "unproven-lifetime" => self.limits.unproven_lifetime = millis(name, args)?,
            "max-clients" => self.limits.max_clients = number(name, args)?,
            "origin" => {
                let allowed = self.origins.clone().try_allow(args.value()?.string()?);
                self.origins = allowed.map_err(|error| format!("--origin: {error}"))?;
            }
            "cookie" => self.cookie = Some(args.value()?.string()?),
            "secret" => self.secret = Some(secret(&args.value()?.string()?)?),
            _ => return self.set_over_http(name, args),
        }
        Ok(true)
    }

    /// Sets a flag of what comes without a WebSocket; returns whether there is such a flag.
    fn set_over_http(
        &mut self,
        name: &str,
        args: &mut lexopt::Parser,
    ) -> Result<bool, lexopt::Error> {
        match name {
            "transports" => {
                let list = args.value()?.string()?;
                let has = |name: &str| list.split(',').any(|listed| listed == name);
                if list.split(',').any(|name| !["websocket", "sse", "poll"].contains(&name)) {
                    return Err(format!("--transports {list} is not supported").into());
                }
                self.http = self
                    .http
                    .with_websocket(has("websocket"))
                    .with_sse(has("sse"))
                    .with_poll(has("poll"));
            }
            "door" => {
                let words =
                    [("json", Door::json()), ("text", Door::text()), ("bytes", Door::bytes())];
                self.door = Some(word(name, args, &words)?);
            }
            "absent" => self.http.absent = millis(name, args)?,
            "hold" => self.http.hold = Some(millis(name, args)?),
            "rotate" => self.http.rotate = millis(name, args)?,
            "max-observers" => self.limits.observers = number(name, args)?,
            "messages-per-second" => {
                self.limits.messages_per_second = Some(number(name, args)?);
            }
            "max-pipes" => self.limits.pipes = number(name, args)?,
            _ => return self.set_of_node(name, args),
        }
        Ok(true)
    }

    /// Sets a flag of a node of several; returns whether there is such a flag.
    fn set_of_node(
        &mut self,
        name: &str,
        args: &mut lexopt::Parser,
    ) -> Result<bool, lexopt::Error> {
        match name {
            "cluster" => self.node().url = Some(args.value()?.string()?),
            "node" => self.node().node = Some(args.value()?.string()?),
            "advertise" => self.node().advertise = Some(args.value()?.string()?),
            "hops" => self.node().hops = Some(args.value()?.string()?),
            "lease" => self.node().lease = Some(millis(name, args)?),
            "replicas" => self.node().replicas = number(name, args)?,
            "max-relays" => self.node().max_relays = Some(number(name, args)?),
            "elsewhere" => {
                let words = [
                    ("relay", Elsewhere::Relay),
                    ("hand-over", Elsewhere::HandOver),
                    ("reroute", Elsewhere::Reroute(names_owner)),
                ];
                self.node().elsewhere = word(name, args, &words)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn node(&mut self) -> &mut ClusterFlags {
        self.cluster.get_or_insert_default()
    }

    /// A node needs its engine, its name and its address.
    fn check_cluster(&self) -> Result<(), lexopt::Error> {
        let Some(of) = &self.cluster else {
            return Ok(());
        };
        let needed = [("cluster", &of.url), ("node", &of.node), ("advertise", &of.advertise)];
        if let Some((flag, _)) = needed.into_iter().find(|(_, value)| value.is_none()) {
            return Err(format!("a node of a cluster needs --{flag}").into());
        }
        if self.store.is_some() {
            return Err("--cluster is instead of --store".into());
        }
        Ok(())
    }

    /// Returns where sessions are read by readers of Durable Streams.
    pub(crate) fn doors(&self) -> Doors {
        let shim = self.streams_shim.then(Arc::default);
        Doors { door: self.door.clone(), shim }
    }

    /// Makes the layer; `advertise` is where the other nodes reach this one.
    pub(crate) async fn layer(
        &self,
        advertise: Option<&str>,
    ) -> Result<SessionResume<Tally>, Box<dyn std::error::Error>> {
        let mut key = self.key.clone().unwrap_or_else(key::by_identity);
        if self.shared_key {
            key = key.shared();
        }
        let bytes = self.retain_bytes;
        let retain = bytes.map_or(self.retain, |bytes| self.retain.with_bytes(bytes));
        let mut resume = SessionResume::new()
            .with_state::<Tally>()
            .with_heartbeat(self.heartbeat)
            .with_limits(self.limits)
            .with_key(key)
            .with_reuse(self.reuse.clone())
            .with_unreadable(self.unreadable)
            .with_catch_up(self.catch_up)
            .with_retention(retain)
            .with_http(self.http)
            .with_plain_http(self.plain_http)
            .with_allowed_origins(self.origins.clone());
        if let Some(attach) = self.attach {
            resume = resume.with_attach(attach);
        }
        if let Some(overflow) = self.overflow {
            resume = resume.with_overflow(overflow);
        }
        if let Some(plain_ack) = self.plain_ack {
            resume = resume.with_plain_ack(plain_ack);
        }
        if let Some(lifetime) = self.unused_lifetime {
            resume = resume.with_unused_lifetime(lifetime);
        }
        if let Some(interval) = self.check_interval {
            resume = resume.with_check_interval(interval);
        }
        if let Some(lifetime) = self.outcome_lifetime {
            resume = resume.with_outcome_lifetime(lifetime);
        }
        if let Some(durability) = self.durability {
            resume = resume.with_durability(durability);
        }
        if let Some(interval) = self.flush {
            resume = resume.with_flush_interval(interval);
        }
        if let Some(timeout) = self.store_timeout {
            resume = resume.with_store_timeout(timeout);
        }
        if let Some(lifetime) = self.stored_lifetime {
            resume = resume.with_stored_lifetime(lifetime);
        }
        if self.merge_newest {
            resume = resume.with_merge(MergePolicy::Newest);
        }
        if let Some(of) = &self.cluster {
            let url = of.url.as_deref().unwrap_or_default();
            let store = RedisStore::builder(url).with_replicas(of.replicas).connect().await?;
            let mut cluster = Cluster::new(store)
                .with_name(of.node.clone().unwrap_or_default())
                .with_advertise(advertise.unwrap_or_default())
                .with_elsewhere(of.elsewhere);
            if let Some(lease) = of.lease {
                cluster = cluster.with_lease(lease);
            }
            if let Some(relays) = of.max_relays {
                cluster = cluster.with_max_relays(relays);
            }
            resume = resume.with_cluster(cluster);
        }
        resume = match &self.store {
            Some(url) if is_redis(url) => resume.with_store(RedisStore::connect(url).await?),
            Some(path) => resume.with_store(open(path)?),
            None => resume,
        };
        // Nodes at other ports of one host would make a browser a stranger.
        let of_cluster = self.cluster.as_ref().map(|_| "sr_id".to_owned());
        let name = self.cookie.clone().or(of_cluster);
        if self.secret.is_some() || name.is_some() || self.partitioned {
            let mut cookie = name.map_or_else(IdentityCookie::default, IdentityCookie::new);
            if let Some(secret) = self.secret {
                cookie = cookie.with_key(secret);
            }
            if self.partitioned {
                cookie = cookie.with_same_site(SameSite::None).with_partitioned(true);
            }
            cookie.validate()?;
            resume = resume.with_identity(cookie);
        }
        Ok(resume)
    }
}

/// Whether a store is an engine's URL, and not a path.
fn is_redis(store: &str) -> bool {
    let scheme = store.split_once("://").map_or("", |(scheme, _)| scheme);
    ["redis", "valkey"].iter().any(|engine| scheme.starts_with(engine))
}

/// Opens the store; a file that cannot be used is told in one line.
fn open(path: &str) -> Result<RedbStore, Box<dyn std::error::Error>> {
    // redb panics on some damage, which `RedbStore` turns into an error; the hook would print it, too.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let opened = RedbStore::open(path);
    std::panic::set_hook(hook);
    Ok(opened?)
}

fn word<V: Clone>(
    name: &str,
    args: &mut lexopt::Parser,
    words: &[(&str, V)],
) -> Result<V, lexopt::Error> {
    let value = args.value()?.string()?;
    match words.iter().find(|(word, _)| *word == value) {
        Some((_, meaning)) => Ok(meaning.clone()),
        None => Err(format!("--{name} {value} is not supported").into()),
    }
}

fn number<N: FromStr<Err: Display>>(
    name: &str,
    args: &mut lexopt::Parser,
) -> Result<N, lexopt::Error> {
    let value = args.value()?.string()?;
    value.parse().map_err(|error| format!("--{name} {value}: {error}").into())
}

fn retain(text: &str) -> Result<Retain, lexopt::Error> {
    let last = text.strip_prefix("last:").and_then(|count| count.parse().ok());
    match (text, last) {
        (_, Some(count)) => Ok(Retain::last(count)),
        ("checkpoint", None) => Ok(Retain::since_checkpoint()),
        ("done", None) => Ok(Retain::until_done()),
        _ => Err(format!("--retain {text} is not supported").into()),
    }
}

fn millis(name: &str, args: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    number(name, args).map(Duration::from_millis)
}

/// A time that must not be 0.
fn some_millis(name: &str, args: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    let time = millis(name, args)?;
    if time.is_zero() { Err(format!("--{name} 0 is not supported").into()) } else { Ok(time) }
}

fn key(text: &str) -> Result<KeyFn, lexopt::Error> {
    match text {
        "identity" => Ok(key::by_identity()),
        "path" => Ok(key::by_path()),
        "client" => Ok(key::per_client()),
        _ => match text.strip_prefix("header:") {
            Some(name) if axum::http::HeaderName::from_str(name).is_ok() => {
                Ok(key::by_header(name))
            }
            _ => Err(format!("--key {text} is not supported").into()),
        },
    }
}

/// 64 bytes in hexadecimal.
fn secret(text: &str) -> Result<[u8; 64], lexopt::Error> {
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let bytes = (text.len() == 128 && is_hex)
        .then(|| (0..64).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16)).collect())
        .and_then(Result::<Vec<u8>, _>::ok)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "--secret takes 64 bytes in hexadecimal".into())
}

/// Headers by which a platform could find the owner.
fn names_owner(owner: &NodeInfo) -> HeaderMap {
    let name = HeaderValue::try_from(&*owner.name).expect("a node's name is ASCII");
    HeaderMap::from_iter([(HeaderName::from_static("x-owner"), name)])
}
