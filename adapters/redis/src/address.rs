//! What a URL says: how the engine is found, and how one logs in.

use std::fmt;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// How the servers of an engine are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server; where it is stands in the [`Login`].
    One,
    /// The primary that these Sentinels name.
    #[cfg(feature = "sentinel")]
    Sentinel { sentinels: Vec<Address>, primary: String },
    /// The nodes that these know.
    #[cfg(feature = "cluster")]
    Cluster { seeds: Vec<Address> },
}

/// How one connects and logs in; the same for each server of an engine.
#[derive(Clone)]
pub(crate) struct Login {
    info: ConnectionInfo,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
}

// By hand: it has the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Names several in one line.
#[cfg(any(feature = "sentinel", feature = "cluster"))]
pub(crate) fn list(addresses: &[Address]) -> String {
    addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}

const NOT_A_URL: &str = "the URL is not of the form redis://user:password@host:port/database";

/// Reads a URL.
///
/// # Errors
///
/// Why it cannot be used, without a word of it: it may have a password.
pub(crate) fn parse(url: &str) -> Result<(Kind, Login), String> {
    let (scheme, rest) = url.split_once("://").ok_or(NOT_A_URL)?;
    let (base, kind) = scheme.split_once('-').map_or((scheme, ""), |(base, kind)| (base, kind));
    if !cfg!(feature = "tls") && ["rediss", "valkeys"].contains(&base) {
        return Err("rediss:// needs the feature tls".to_owned());
    }
    match kind {
        "" => {
            // What the parser says might quote the URL.
            let info = url.into_connection_info().map_err(|_| NOT_A_URL)?;
            Ok((Kind::One, Login::new(info)))
        }
        "sentinel" => sentinel(base, rest),
        "cluster" => cluster(base, rest),
        _ => Err(NOT_A_URL.to_owned()),
    }
}

#[cfg(not(feature = "sentinel"))]
fn sentinel(_base: &str, _rest: &str) -> Result<(Kind, Login), String> {
    Err("redis-sentinel:// needs the feature sentinel".to_owned())
}

#[cfg(not(feature = "cluster"))]
fn cluster(_base: &str, _rest: &str) -> Result<(Kind, Login), String> {
    Err("redis-cluster:// needs the feature cluster".to_owned())
}

#[cfg(feature = "sentinel")]
fn sentinel(base: &str, rest: &str) -> Result<(Kind, Login), String> {
    const FORM: &str = "the URL is not of the form \
                        redis-sentinel://user:password@host:port,host:port/name/database";
    let (hosts, path) = rest.split_once('/').ok_or(FORM)?;
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    let is_named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_named) {
        return Err(FORM.to_owned());
    }
    let (sentinels, login) = several(base, hosts, database, 26379).ok_or(FORM)?;
    Ok((Kind::Sentinel { sentinels, primary: name.to_owned() }, login))
}

#[cfg(feature = "cluster")]
fn cluster(base: &str, rest: &str) -> Result<(Kind, Login), String> {
    const FORM: &str = "the URL is not of the form redis-cluster://user:password@host:port,host:port; a cluster \
         has no databases";
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    if !["", "0"].contains(&database) {
        return Err(FORM.to_owned());
    }
    let (seeds, login) = several(base, hosts, "", 6379).ok_or(FORM)?;
    Ok((Kind::Cluster { seeds }, login))
}

/// Reads `user:password@host:port,host:port`.
#[cfg(any(feature = "sentinel", feature = "cluster"))]
fn several(base: &str, hosts: &str, database: &str, port: u16) -> Option<(Vec<Address>, Login)> {
    let (login, hosts) = match hosts.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), hosts),
    };
    let mut addresses = Vec::new();
    let mut first = None;
    for host in hosts.split(',') {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if has_port { String::new() } else { format!(":{port}") };
        let url = format!("{base}://{login}{host}{port}/{database}");
        let info = url.into_connection_info().ok()?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                addresses.push(Address { host: host.clone(), port: *port });
            }
            _ => return None,
        }
        first.get_or_insert(info);
    }
    Some((addresses, Login::new(first?)))
}

impl Login {
    fn new(info: ConnectionInfo) -> Self {
        // RESP3: only there a connection tells that its peer has closed it.
        // No name of a library: it would need one more right, and one more round trip.
        let redis = info.redis_settings().clone();
        let redis = redis.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        Self {
            info: info.set_redis_settings(redis),
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set_certificates(&mut self, certificates: redis::TlsCertificates) {
        self.certificates = Some(certificates);
    }

    /// Whether what is said is encrypted.
    #[cfg(feature = "tls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// The same connection with another user, to a server that has no databases.
    #[cfg(feature = "sentinel")]
    pub(crate) fn as_user(&self, user: Option<&str>, password: Option<&str>) -> Self {
        let mut redis = redis::RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        if let Some(user) = user {
            redis = redis.set_username(user);
        }
        if let Some(password) = password {
            redis = redis.set_password(password);
        }
        let mut login = self.clone();
        login.info = login.info.set_redis_settings(redis);
        login
    }

    /// Host and port of the URL's own server, or a path; nothing secret.
    pub(crate) fn place(&self) -> Result<String, String> {
        let address = self.info.addr();
        if !address.is_supported() {
            return Err("this kind of address is not supported here".to_owned());
        }
        match address {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok(Address { host: host.clone(), port: *port }.to_string())
            }
            ConnectionAddr::Unix(path) => Ok(path.display().to_string()),
            _ => Err("this kind of address is not supported".to_owned()),
        }
    }

    /// What connects to the server that the URL names.
    pub(crate) fn client(&self) -> Result<Client, String> {
        self.build(self.info.clone())
    }

    /// What connects to a server in the way that the URL says.
    #[cfg(any(feature = "sentinel", feature = "cluster"))]
    pub(crate) fn client_of(&self, address: &Address) -> Result<Client, String> {
        let Address { host, port } = address.clone();
        let address = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.build(self.info.clone().set_addr(address))
    }

    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self))]
    fn build(&self, info: ConnectionInfo) -> Result<Client, String> {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            let client = Client::build_with_tls(info, certificates.clone());
            return client.map_err(|error| error.to_string());
        }
        Client::open(info).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_urls_name_one_server() {
        for (url, place) in [
            ("redis://user:word@host:7000/2", "host:7000"),
            ("valkey://host", "host:6379"),
            ("redis://[::1]:7000", "[::1]:7000"),
            ("redis+unix:///run/redis.sock", "/run/redis.sock"),
        ] {
            let (kind, login) = parse(url).unwrap();
            assert_eq!(kind, Kind::One);
            assert_eq!(login.place().unwrap(), place);
        }
    }

    #[cfg(all(feature = "sentinel", feature = "cluster"))]
    #[test]
    fn others_name_several() {
        let texts = |addresses: &[Address]| -> Vec<_> {
            addresses.iter().map(Address::to_string).collect()
        };
        let (kind, login) =
            parse("redis-sentinel://user:p%40ss@one,[::1],three:7000/mymaster/3").unwrap();
        let Kind::Sentinel { sentinels, primary } = kind else { panic!("{kind:?}") };
        assert_eq!(texts(&sentinels), ["one:26379", "[::1]:26379", "three:7000"]);
        assert_eq!(primary, "mymaster");
        let settings = login.info.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("user"), Some("p@ss")));
        assert_eq!(settings.db(), 3);
        let of_sentinel = login.as_user(None, Some("other"));
        let settings = of_sentinel.info.redis_settings();
        assert_eq!((settings.username(), settings.password()), (None, Some("other")));
        assert_eq!(settings.db(), 0);

        let (kind, _) = parse("valkey-cluster://one,two:7001/0").unwrap();
        let Kind::Cluster { seeds } = kind else { panic!("{kind:?}") };
        assert_eq!(texts(&seeds), ["one:6379", "two:7001"]);
    }

    #[test]
    fn what_cannot_be_used_is_not_quoted() {
        for url in [
            "",
            "hunter2",
            "http://hunter2",
            "redis://hunter2:port",
            "redis-other://hunter2",
            "redis-sentinel://:hunter2@host",
            "redis-sentinel://:hunter2@host/",
            "redis-sentinel://:hunter2@host/na me",
            "redis-sentinel://:hunter2@host/name/x",
            "redis-sentinel://:hunter2@host,,other/name",
            "redis-cluster://:hunter2@host/3",
            "redis-cluster://:hunter2@host:port",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
