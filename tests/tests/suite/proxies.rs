//! Proxies in front of a server, with the configurations of the docs, word for word.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use session_resume_testkit::until;
use tokio::net::{TcpListener, TcpStream};

const PAGE: &str = include_str!("../../../core/resume/docs/behind-a-proxy.md");

/// A proxy that many put in front of their servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Apache's httpd.
    Apache,
    /// Caddy.
    Caddy,
    /// Varnish.
    Varnish,
}

impl Kind {
    const fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Apache => "apache2",
            Self::Caddy => "caddy",
            Self::Varnish => "varnishd",
        }
    }

    /// The language of its text in the docs.
    const fn fence(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Apache => "apache",
            Self::Caddy => "caddy",
            Self::Varnish => "varnish",
        }
    }

    fn is_there(self) -> bool {
        let asks = if self == Self::Caddy { "version" } else { "-v" };
        let mut command = Command::new(self.program());
        // What it says is of no interest, nor is a status: Varnish calls this flag unknown.
        command.arg(asks).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    }

    /// The text of the docs, its ports and addresses exchanged.
    fn text(self, at: SocketAddr, server: SocketAddr) -> String {
        let fence = format!("```{}\n", self.fence());
        let text = PAGE.split(&fence).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let port = format!(".port = \"{}\"", server.port());
        let listens = match self {
            Self::Nginx => ("listen 80;", format!("listen {at};")),
            Self::HaProxy => ("bind :80", format!("bind {at}")),
            Self::Apache => ("*:80", at.to_string()),
            Self::Caddy => ("http://app.example", format!("http://{at}")),
            // It listens where its command line says.
            Self::Varnish => (".port = \"3000\"", port),
        };
        let mut changed = text.replace(listens.0, &listens.1);
        assert_ne!(changed, text, "the docs say where it listens");
        if self != Self::Varnish {
            changed = changed.replace("127.0.0.1:3000", &server.to_string());
            assert!(changed.contains(&server.to_string()), "the docs say where the server is");
        }
        changed
    }

    /// What the text needs around it, to run in this folder alone.
    fn config(self, folder: &Path, at: SocketAddr, server: SocketAddr) -> String {
        let text = self.text(at, server);
        let folder = folder.display();
        match self {
            Self::Nginx => {
                let bodies = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
                    .concat();
                // Some compress all they can.
                let gzip = "gzip on; gzip_min_length 0; gzip_proxied any; \
                            gzip_types text/event-stream application/json;";
                format!(
                    "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error; \
                     events {{}}\nhttp {{ access_log off; {gzip} {bodies}\n{text}\n}}\n"
                )
            }
            Self::Apache => {
                let modules =
                    ["mpm_event", "authz_core", "proxy", "proxy_http", "headers"].map(|name| {
                        format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
                    });
                format!(
                    "{}DefaultRuntimeDir {folder}\nPidFile {folder}/pid\nErrorLog /dev/stderr\n\
                     LogLevel crit\nServerName app.example\nUser www-data\nGroup www-data\n\
                     GracefulShutdownTimeout 1\nListen {at}\n{text}",
                    modules.concat()
                )
            }
            Self::Caddy => {
                format!("{{\n admin unix/{folder}/admin\n log {{\n level ERROR\n }}\n}}\n{text}")
            }
            Self::HaProxy | Self::Varnish => text,
        }
    }

    fn command(self, folder: &Path, at: SocketAddr) -> Command {
        let mut command = Command::new(self.program());
        let config = folder.join("config");
        match self {
            Self::Nginx => command.arg("-c").arg(config).arg("-p").arg(folder),
            Self::HaProxy => command.args(["-W", "-q", "-f"]).arg(config),
            Self::Apache => command.arg("-d").arg(folder).arg("-f").arg(config).arg("-DFOREGROUND"),
            Self::Caddy => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config),
            Self::Varnish => command
                .args(["-F", "-j", "none", "-s", "malloc,16m", "-p", "pipe_timeout=90", "-n"])
                .arg(folder.join("varnish"))
                .args(["-a", &at.to_string(), "-f"])
                .arg(config),
        };
        command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command
    }
}

/// A proxy of our own, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    kind: Kind,
    process: Child,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Proxy {
    /// Starts one in front of `server`; `None`, and a line that says so, where it is missing.
    ///
    /// # Panics
    ///
    /// Panics if it does not come up.
    pub(crate) async fn start(kind: Kind, server: SocketAddr) -> Option<Self> {
        if !kind.is_there() {
            eprintln!("left out: {} is missing", kind.program());
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago: a proxy cannot be asked for one.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        fs::write(folder.path().join("config"), kind.config(folder.path(), address, server))
            .unwrap();
        let process = kind.command(folder.path(), address).spawn().unwrap();
        let mut proxy = Self { kind, process, folder, address };
        proxy.listens().await;
        Some(proxy)
    }

    /// Waits until it listens.
    async fn listens(&mut self) {
        let (address, process) = (self.address, &mut self.process);
        until("the proxy listens", async || {
            let ended = process.try_wait().unwrap();
            assert_eq!(ended, None, "the proxy has ended by itself");
            TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    /// Makes it read its configuration again, as an operator does.
    ///
    /// # Panics
    ///
    /// Panics if the proxy says that it failed.
    pub(crate) fn reload(&self) {
        let config = self.folder.path().join("config");
        match self.kind {
            Kind::Nginx => self.signal("HUP"),
            Kind::HaProxy => self.signal("USR2"),
            Kind::Apache => self.signal("USR1"),
            Kind::Caddy => {
                let admin = format!("unix/{}/admin", self.folder.path().display());
                let mut reload = Command::new("caddy");
                reload.args(["reload", "--force", "--adapter", "caddyfile", "--address", &admin]);
                run(reload.arg("--config").arg(config));
            }
            Kind::Varnish => {
                let admin = |args: &[&str]| {
                    let mut command = Command::new("varnishadm");
                    run(command.arg("-n").arg(self.folder.path().join("varnish")).args(args));
                };
                admin(&["vcl.load", "again", &config.display().to_string()]);
                admin(&["vcl.use", "again"]);
            }
        }
    }

    /// Kills it with all that it has open, and starts it again at the same address.
    ///
    /// # Panics
    ///
    /// Panics if it does not come up.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        // Its other processes may take a moment, and keep the address as long.
        let address = self.address;
        until("the address is free", async || TcpListener::bind(address).await.is_ok()).await;
        self.process = self.kind.command(self.folder.path(), self.address).spawn().unwrap();
        self.listens().await;
    }

    fn signal(&self, name: &str) {
        run(Command::new("kill").args(["-s", name]).arg(self.process.id().to_string()));
    }

    fn kill(&mut self) {
        let id = self.process.id();
        let (signal, target) = match self.kind {
            // Its second process is in a group of its own, and ends at once when the first one asks.
            Kind::Varnish => ("TERM", id.to_string()),
            // The whole group. Apache would take ten seconds to end by itself.
            _ => ("KILL", format!("-{id}")),
        };
        let _ = Command::new("kill").args(["-s", signal, "--", &target]).status();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
