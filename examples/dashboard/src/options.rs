//! The command line.

use std::{ffi::OsString, path::PathBuf};

use example_support::place;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::node::Node;

pub(crate) const USAGE: &str =
    "usage: dashboard [--listen ADDR] [--store PATH | --store redis://HOST:PORT | --memory] [--monitor]
       dashboard --store redis://HOST:PORT --node NAME [--hops ADDR] [--listen ADDR]
       dashboard cluster [--listen ADDR] [--control ADDR]
  --listen  default 127.0.0.1:5007; port 0 picks one. A listener that systemd hands over goes first
  --store   where sessions are kept, in a file or on a Redis server; default
            session-resume-dashboard/sessions.redb in the state folder
  --memory  keeps sessions in memory alone: they end with the server
  --monitor shows all sessions at /monitor to browsers of this machine; for a loopback address alone
  --node    makes this one of several nodes on that Redis server
  --hops    where the other nodes reach this one; default 127.0.0.1:0
cluster starts a Redis server, three nodes and a balancer on this machine
  --control where the page is that shows the nodes; default 127.0.0.1:5008";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(Options),
    /// Several nodes on this machine.
    Cluster {
        listen: String,
        control: String,
    },
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) store: Store,
    pub(crate) monitor: bool,
    /// One of several nodes.
    pub(crate) node: Option<Node>,
}

/// Where sessions are kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// They end with the server.
    Memory,
    File(PathBuf),
    /// On the server at this URL.
    Redis(Url),
}

/// A URL that may have a password in it.
#[derive(PartialEq, Eq)]
pub(crate) struct Url(pub(crate) String);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Url(..)")
    }
}

impl Store {
    fn new(value: OsString) -> Self {
        match value.into_string() {
            Ok(text) if text.starts_with("redis://") => Self::Redis(Url(text)),
            Ok(text) => Self::File(text.into()),
            Err(path) => Self::File(path.into()),
        }
    }
}

/// Reads the command line.
pub(crate) fn command(mut args: Parser) -> Result<Command, lexopt::Error> {
    let mut listen = "127.0.0.1:5007".to_owned();
    let mut store = None;
    let mut monitor = false;
    let (mut is_cluster, mut control) = (false, None);
    let (mut name, mut hops) = (None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Value(word) if word == "cluster" && !is_cluster => is_cluster = true,
            Arg::Long("listen") => listen = args.value()?.string()?,
            Arg::Long("store") => store = Some(Store::new(args.value()?)),
            Arg::Long("monitor") => monitor = true,
            Arg::Long("memory") => store = Some(Store::Memory),
            Arg::Long("node") => name = Some(args.value()?.string()?),
            Arg::Long("hops") => hops = Some(args.value()?.string()?),
            Arg::Long("control") => control = Some(args.value()?.string()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if is_cluster {
        if store.is_some() || monitor || name.is_some() || hops.is_some() {
            return Err("cluster takes --listen and --control alone".into());
        }
        let control = control.unwrap_or_else(|| "127.0.0.1:5008".into());
        return Ok(Command::Cluster { listen, control });
    }
    if control.is_some() {
        return Err("--control is for cluster".into());
    }
    let node = match name {
        Some(_) if !matches!(store, Some(Store::Redis(_))) => {
            return Err("--node needs --store redis://HOST:PORT".into());
        }
        Some(name) => Some(Node { name, hops: hops.unwrap_or_else(|| "127.0.0.1:0".into()) }),
        None if hops.is_some() => return Err("--hops needs --node".into()),
        None => None,
    };
    let in_a_file = || Store::File(place::default_file("dashboard", "sessions.redb"));
    let store = store.unwrap_or_else(in_a_file);
    Ok(Command::Serve(Options { listen, store, monitor, node }))
}

#[cfg(test)]
mod arguments {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, String> {
        command(Parser::from_args(args)).map_err(|error| error.to_string())
    }

    fn serve(args: &[&str]) -> Options {
        match parse(args) {
            Ok(Command::Serve(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_the_defaults_or_what_was_asked_for() {
        let defaults = serve(&[]);
        assert_eq!(defaults.listen, "127.0.0.1:5007");
        assert!(!defaults.monitor && defaults.node.is_none());
        let Store::File(path) = defaults.store else { panic!("not a file") };
        assert!(path.ends_with("session-resume-dashboard/sessions.redb"));
        let given = serve(&["--listen", "[::]:80", "--store", "s.redb"]);
        assert_eq!((given.listen.as_str(), given.store), ("[::]:80", Store::File("s.redb".into())));
        let given = serve(&["--store", "redis://:hunter2@redis"]);
        assert!(!format!("{given:?}").contains("hunter2"));
        assert_eq!(given.store, Store::Redis(Url("redis://:hunter2@redis".into())));
        assert_eq!(serve(&["--memory"]).store, Store::Memory);
        assert!(serve(&["--monitor"]).monitor);
        let node = serve(&["--store", "redis://redis", "--node", "a"]).node;
        assert_eq!(node, Some(Node { name: "a".into(), hops: "127.0.0.1:0".into() }));
        assert!(matches!(parse(&["--help"]), Ok(Command::Help)));
        let Ok(Command::Cluster { listen, control }) = parse(&["cluster", "--listen", "[::]:80"])
        else {
            panic!("no cluster")
        };
        assert_eq!((&*listen, &*control), ("[::]:80", "127.0.0.1:5008"));
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (args, expected) in [
            (&["--node", "a"][..], "redis://"),
            (&["--node", "a", "--memory"], "redis://"),
            (&["--hops", "127.0.0.1:0"], "--node"),
            (&["--control", "127.0.0.1:0"], "cluster"),
            (&["cluster", "--memory"], "--listen and --control"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(parse(&["--port", "1"]).unwrap_err().contains("--port"));
        assert!(parse(&["--listen"]).unwrap_err().contains("--listen"));
        assert!(parse(&["5007"]).unwrap_err().contains("5007"));
    }
}
