//! Whether an engine can keep sessions, as far as it says.

use std::{collections::HashMap, time::Duration};

use crate::{
    connection::{Live, bytes, text_fields},
    error::{ConnectError, ConnectErrorKind, NODE_OF_A_CLUSTER},
    target::Target,
};

/// Between two looks at an engine that is about to work.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// The first Redis whose scripts have headers.
const OLDEST: u32 = 7;

/// What is known of an engine's configuration before it is connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Configuration {
    /// Nothing: the store looks at it.
    Checked,
    /// The operator has looked at it.
    Assumed,
}

/// Looks at an engine that was just connected to.
pub(crate) async fn engine(
    live: &mut Live,
    target: &Target,
    configuration: Configuration,
) -> Result<(), ConnectError> {
    let address = &target.name;
    match configuration {
        Configuration::Checked => {}
        Configuration::Assumed => return Ok(()),
    }
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("server");
    pipe.cmd("INFO").arg("replication");
    pipe.cmd("CONFIG").arg("GET").arg("*");
    let answers = live.send(&pipe).await.map_err(|failure| ConnectError::of(failure, address))?;
    let [server, replication, config] = <[_; 3]>::try_from(answers).map_err(|_| {
        ConnectError::new(ConnectErrorKind::WrongEngine, address, "it answers too little")
    })?;
    if let Ok(info) = server.and_then(bytes) {
        let info = String::from_utf8_lossy(&info);
        version(&info)
            .and_then(|()| mode(&info, target.is_node()))
            .map_err(|reason| ConnectError::new(ConnectErrorKind::WrongEngine, address, reason))?;
    }
    let replicas = replication.and_then(bytes).map_or(0, |info| {
        let info = String::from_utf8_lossy(&info).into_owned();
        field(&info, "connected_slaves").and_then(|text| text.parse().ok()).unwrap_or(0)
    });
    match config.and_then(text_fields) {
        Ok(config) => {
            let config = Config { pairs: config, replicas };
            if let Some(reason) = config.refusal() {
                return Err(ConnectError::new(ConnectErrorKind::Configuration, address, reason));
            }
            for warning in config.warnings() {
                tracing::warn!(%address, "{warning}");
            }
        }
        Err(failure) => {
            let reason = failure.text;
            tracing::warn!(
                %address, %reason,
                "the engine does not tell its configuration; when you have checked it, say assume_configured()"
            );
        }
    }
    Ok(())
}

fn version(info: &str) -> Result<(), String> {
    // Valkey says which Redis it is like, from 7.2 on.
    let Some(version) = field(info, "redis_version") else {
        return Ok(());
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST => {
            Err(format!("it is Redis {version}, and {OLDEST}.0 is the oldest that will do"))
        }
        _ => Ok(()),
    }
}

/// Whether it is part of a cluster only if it should be.
fn mode(info: &str, is_node: bool) -> Result<(), String> {
    if field(info, "redis_mode") == Some("cluster") && !is_node {
        return Err(NODE_OF_A_CLUSTER.to_owned());
    }
    Ok(())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What an engine says of itself.
struct Config {
    pairs: HashMap<String, String>,
    replicas: u32,
}

impl Config {
    fn is(&self, name: &str, value: &str) -> bool {
        self.pairs.get(name).is_some_and(|is| is == value)
    }

    /// Why it cannot keep sessions.
    fn refusal(&self) -> Option<String> {
        let policy = self.pairs.get("maxmemory-policy");
        if let Some(policy) = policy.filter(|policy| *policy != "noeviction") {
            return Some(format!(
                "maxmemory-policy is {policy}, so it throws sessions away when it is full: set it to noeviction"
            ));
        }
        let saves = self.pairs.get("save").is_some_and(|points| !points.is_empty());
        if saves && self.is("stop-writes-on-bgsave-error", "yes") {
            return Some(
                "after a snapshot that fails it refuses all writes: set stop-writes-on-bgsave-error to no, \
                 or save to \"\""
                    .to_owned(),
            );
        }
        None
    }

    /// Settings that may be meant so, but lose sessions in some faults.
    fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.is("appendonly", "no") {
            warnings.push("appendonly is no: a restart of the engine loses sessions that are in no process's memory");
        }
        if self.is("appendonly", "yes") && !self.is("appendfsync", "always") {
            warnings.push(
                "appendfsync is not always: a power failure of the engine's host loses the last seconds",
            );
        }
        if self.replicas > 0 && self.is("min-replicas-to-write", "0") {
            warnings.push(
                "it has replicas and min-replicas-to-write is 0: a primary that is cut off goes on taking writes \
                 that are lost",
            );
        }
        if self.is("cluster-enabled", "yes") && self.is("cluster-require-full-coverage", "yes") {
            warnings.push(
                "cluster-require-full-coverage is yes: when some slots have no node, none works; set it to no",
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(replicas: u32, pairs: &[(&str, &str)]) -> Config {
        let all = [
            ("maxmemory-policy", "noeviction"),
            ("save", ""),
            ("stop-writes-on-bgsave-error", "yes"),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("min-replicas-to-write", "1"),
        ];
        let pairs = all.iter().chain(pairs);
        let pairs = pairs.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config { pairs, replicas }
    }

    #[test]
    fn engines_that_lose_or_stop_sessions_are_refused() {
        assert_eq!(config(1, &[]).refusal(), None);
        let evicts = config(0, &[("maxmemory-policy", "allkeys-lru")]).refusal().unwrap();
        assert!(evicts.contains("allkeys-lru") && evicts.contains("noeviction"), "{evicts}");
        let stops = config(0, &[("save", "3600 1")]).refusal().unwrap();
        assert!(stops.contains("stop-writes-on-bgsave-error"), "{stops}");
        let saves = [("save", "3600 1"), ("stop-writes-on-bgsave-error", "no")];
        assert_eq!(config(0, &saves).refusal(), None);
    }

    #[test]
    fn what_loses_sessions_in_some_faults_is_warned_of() {
        assert!(config(1, &[]).warnings().is_empty());
        for (replicas, name, value, part) in [
            (0, "appendonly", "no", "restart"),
            (0, "appendfsync", "everysec", "power failure"),
            (1, "min-replicas-to-write", "0", "cut off"),
        ] {
            let warnings = config(replicas, &[(name, value)]).warnings();
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{name}: {warnings:?}");
        }
        assert!(config(0, &[("min-replicas-to-write", "0")]).warnings().is_empty());
        let whole = ("cluster-require-full-coverage", "yes");
        let warnings = config(0, &[("cluster-enabled", "yes"), whole]).warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("full-coverage"), "{warnings:?}");
        assert!(config(0, &[("cluster-enabled", "no"), whole]).warnings().is_empty());
    }

    #[test]
    fn a_part_of_something_else_is_not_used_alone() {
        assert!(mode("redis_mode:standalone\r\n", false).is_ok());
        assert!(mode("redis_mode:cluster\r\n", true).is_ok());
        assert!(mode("redis_mode:cluster\r\n", false).unwrap_err().contains("redis-cluster://"));
    }

    #[test]
    fn the_version_is_read() {
        assert!(version("redis_version:7.0.15\r\nx:1\r\n").is_ok());
        assert!(version("redis_version:10.1.0\r\n").is_ok());
        assert!(
            version("server_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n")
                .is_ok()
        );
        let old = version("redis_version:6.2.7\r\n").unwrap_err();
        assert!(old.contains("6.2.7"), "{old}");
    }
}
