//! The proxies as processes: with the files of `tuning/proxy`, as they are but for ports, files and sizes, or with the least
//! that makes them a proxy; and curl, which goes through them.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::nginx::{changed, nginx, nginx_with};
use crate::support::node::Node;
use crate::support::ports::free_port;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Nginx,
    /// An nginx of which nobody thought, in front of the one of `tuning/proxy`.
    NginxTwice,
    HaProxy,
    /// HAProxy behind something else that has the TLS.
    HaProxyPlain,
    Caddy,
    Apache,
    Varnish,
    Lighttpd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Config {
    /// The file of `tuning/proxy`.
    Shipped,
    /// The least that makes it a proxy, without TLS.
    Bare,
}

/// How viewers speak to a proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Http {
    One,
    Two,
}

impl Kind {
    /// How viewers may speak to it as it is configured here.
    pub fn versions(self) -> &'static [Http] {
        match self {
            // Without TLS no browser speaks HTTP/2.
            Kind::Varnish | Kind::NginxTwice | Kind::HaProxyPlain => &[Http::One],
            _ => &[Http::One, Http::Two],
        }
    }

    /// What it is asked by, where it has a configuration of ours.
    fn scheme(self) -> &'static str {
        if self.versions().contains(&Http::Two) { "https" } else { "http" }
    }
}

/// A running proxy, ended when this is dropped.
pub struct Proxy {
    child: Child,
    port: u16,
    scheme: &'static str,
    pub folder: TempDir,
    /// What it stands in front of, where that is another proxy.
    _inner: Option<Box<Proxy>>,
}

/// A certificate that nobody signed, and its key.
fn certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=fanfare.example", "-addext", "subjectAltName=DNS:fanfare.example,IP:127.0.0.1"])
        .args(["-keyout", "fanfare.key", "-out", "fanfare.crt"])
        .current_dir(folder)
        .output()
        .expect("openssl; scripts/test installs it");
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    fs::write(folder.join("fanfare.pem"), read("fanfare.crt") + &read("fanfare.key")).unwrap();
}

/// What a proxy is told: its own port and folder, and the node's listeners.
struct Place<'a> {
    folder: &'a Path,
    port: u16,
    public: SocketAddr,
    internal: SocketAddr,
}

impl Place<'_> {
    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Writes a file of the folder. Gives its path.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The certificate and its key, where Debian's administrators put them.
    fn certificate(&self) -> [(&'static str, String); 2] {
        [
            ("/etc/ssl/certs/fanfare.pem", self.file("fanfare.pem")),
            ("/etc/ssl/private/fanfare.key", self.file("fanfare.key")),
        ]
    }

    fn command(&self, kind: Kind, config: Config) -> Command {
        match kind {
            Kind::Nginx => self.nginx(config),
            Kind::NginxTwice => unreachable!("it is two"),
            Kind::HaProxy | Kind::HaProxyPlain => self.haproxy(kind, config),
            Kind::Caddy => self.caddy(config),
            Kind::Apache => self.apache(config),
            Kind::Varnish => self.varnish(config),
            Kind::Lighttpd => self.lighttpd(config),
        }
    }

    fn nginx(&self, config: Config) -> Command {
        if config == Config::Bare {
            return self.nginx_before(&format!("http://{}", self.public));
        }
        let [certificate, key] = self.certificate();
        let changes = [
            ("listen 443 ssl http2 backlog=65535;", format!("listen 127.0.0.1:{} ssl http2;", self.port)),
            ("server 127.0.0.1:8080;", format!("server {};", self.public)),
            certificate,
            key,
            ("/var/log/nginx/fanfare.log", self.file("access.log")),
        ];
        nginx(self.folder, "nginx.conf", &changes)
    }

    fn nginx_before(&self, url: &str) -> Command {
        let text = format!("server {{ listen 127.0.0.1:{}; location / {{ proxy_pass {url}; }} }}", self.port);
        nginx_with(self.folder, &text)
    }

    fn haproxy(&self, kind: Kind, config: Config) -> Command {
        let text = if config == Config::Bare {
            format!(
                "defaults\n mode http\n timeout client 60s\n timeout server 60s\n timeout connect 5s\n\
                 frontend viewers\n bind 127.0.0.1:{}\n default_backend fanfare\nbackend fanfare\n server one {}\n",
                self.port, self.public
            )
        } else {
            let pem = self.file("fanfare.pem");
            let tls = match kind {
                Kind::HaProxy => format!(" ssl crt {pem} alpn h2,http/1.1"),
                _ => String::new(),
            };
            let changes = [
                ("maxconn 500000", "maxconn 1000".to_owned()),
                ("maxconn 490000", "maxconn 900".to_owned()),
                (
                    "bind :443 ssl crt /etc/haproxy/fanfare.pem alpn h2,http/1.1",
                    format!("bind 127.0.0.1:{}{tls}", self.port),
                ),
                ("server one 127.0.0.1:8080", format!("server one {}", self.public)),
                ("check port 8081", format!("check port {}", self.internal.port())),
                ("log /dev/log local0", "log stderr local0 warning".to_owned()),
            ];
            changed("haproxy.cfg", &changes)
        };
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(self.write("haproxy.cfg", &text));
        command
    }

    fn caddy(&self, config: Config) -> Command {
        // No other ports than its own: neither for its administration nor for plain HTTP.
        let global = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n";
        let text = if config == Config::Bare {
            format!("http://:{} {{\n\treverse_proxy {}\n}}\n", self.port, self.public)
        } else {
            let site = format!(
                "https://127.0.0.1:{} {{\n\ttls {} {}\n",
                self.port,
                self.file("fanfare.crt"),
                self.file("fanfare.key")
            );
            let changes = [
                ("fanfare.example {\n", site),
                ("reverse_proxy 127.0.0.1:8080", format!("reverse_proxy {}", self.public)),
                ("health_port 8081", format!("health_port {}", self.internal.port())),
            ];
            changed("Caddyfile", &changes)
        };
        let mut command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(self.write("Caddyfile", &(global.to_owned() + &text)));
        command.env("HOME", self.folder).env("XDG_DATA_HOME", self.folder).env("XDG_CONFIG_HOME", self.folder);
        command
    }

    fn apache(&self, config: Config) -> Command {
        // What Debian's apache2.conf and a2enmod have around it. Who starts as root is to be somebody else after that.
        let root = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let modules: String =
            "mpm_event authz_core proxy proxy_http ssl socache_shmcb http2 headers env deflate filter reqtimeout"
                .split(' ')
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .collect();
        let text = if config == Config::Bare {
            format!("ProxyPass / http://{}/\n", self.public)
        } else {
            let [certificate, key] = self.certificate();
            let changes = [
                ("<VirtualHost *:443>", format!("<VirtualHost 127.0.0.1:{}>", self.port)),
                ("http://127.0.0.1:8080/", format!("http://{}/", self.public)),
                certificate,
                key,
                ("/var/log/apache2/fanfare.log", self.file("access.log")),
            ];
            changed("apache.conf", &changes)
        };
        let around = format!(
            "ServerRoot {folder}\nPidFile {folder}/pid\nServerName 127.0.0.1\nListen 127.0.0.1:{}\n{root}{modules}\
             Mutex file:{folder} default\nErrorLog /dev/stderr\nAddOutputFilterByType DEFLATE text/plain text/event-stream\n{text}",
            self.port,
            folder = self.folder.display()
        );
        let mut command = Command::new("apache2");
        command.arg("-D").arg("FOREGROUND").arg("-f").arg(self.write("apache2.conf", &around));
        command
    }

    fn varnish(&self, config: Config) -> Command {
        let text = if config == Config::Bare {
            format!(
                "vcl 4.1; backend fanfare {{ .host = \"{}\"; .port = \"{}\"; }}",
                self.public.ip(),
                self.public.port()
            )
        } else {
            let port = format!(".port = \"{}\"", self.public.port());
            changed("varnish.vcl", &[(".port = \"8080\"", port)])
        };
        let mut command = Command::new("varnishd");
        // Without its jail it works in a folder that is only the test's.
        command.args(["-F", "-j", "none", "-p", "thread_pool_min=10", "-n"]).arg(self.folder.join("varnish"));
        command.arg("-a").arg(format!("127.0.0.1:{}", self.port)).arg("-f").arg(self.write("fanfare.vcl", &text));
        command
    }

    fn lighttpd(&self, config: Config) -> Command {
        let text = if config == Config::Bare {
            format!(
                "server.modules = ( \"mod_proxy\" )\nproxy.server = ( \"\" => (( \"host\" => \"{}\", \"port\" => {} )))\n",
                self.public.ip(),
                self.public.port()
            )
        } else {
            let [certificate, key] = self.certificate();
            let changes = [
                ("server.max-fds = 500000", "server.max-fds = 1024".to_owned()),
                ("server.max-connections = 250000", "server.max-connections = 512".to_owned()),
                ("\":443\"", format!("\"127.0.0.1:{}\"", self.port)),
                ("\"port\" => 8080", format!("\"port\" => {}", self.public.port())),
                certificate,
                key,
            ];
            changed("lighttpd.conf", &changes)
        };
        let around = format!(
            "server.document-root = \"{}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {}\n{text}",
            self.folder.display(),
            self.port
        );
        let mut command = Command::new("lighttpd");
        command.arg("-D").arg("-f").arg(self.write("lighttpd.conf", &around));
        command
    }
}

impl Proxy {
    /// A proxy that passes on to these listeners, of a node or of something else.
    pub fn start(kind: Kind, config: Config, public: SocketAddr, internal: SocketAddr) -> Proxy {
        if kind != Kind::NginxTwice {
            let scheme = if config == Config::Bare { "http" } else { kind.scheme() };
            return Proxy::launch(scheme, None, |folder, port| {
                Place { folder, port, public, internal }.command(kind, config)
            });
        }
        let inner = Proxy::start(Kind::Nginx, Config::Shipped, public, internal);
        let url = inner.url("");
        Proxy::launch("http", Some(Box::new(inner)), |folder, port| {
            Place { folder, port, public, internal }.nginx_before(&url)
        })
    }

    fn launch(scheme: &'static str, inner: Option<Box<Proxy>>, command: impl Fn(&Path, u16) -> Command) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let port = free_port();
        let mut command = command(folder.path(), port);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the proxy; scripts/test installs it");
        eventually("the proxy to listen", || match child.try_wait().unwrap() {
            Some(status) => panic!("{command:?} ended with {status}; its errors are above"),
            None => TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string()),
        });
        Proxy { child, port, scheme, folder, _inner: inner }
    }

    /// A proxy in front of a node, which it knows to be there.
    pub fn before(kind: Kind, config: Config, node: &Node) -> Proxy {
        let proxy = Proxy::start(kind, config, node.public, node.internal);
        proxy.answers();
        proxy
    }

    /// Waits until a request comes through: some proxies know a server only once they have checked it.
    pub fn answers(&self) {
        eventually("an answer by the proxy", || match self.code(&[], "/v1/time").as_str() {
            "200" => Ok(()),
            code => Err(code.to_owned()),
        });
    }

    pub fn url(&self, target: &str) -> String {
        format!("{}://127.0.0.1:{}{target}", self.scheme, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn curl_command(&self, arguments: &[&str], target: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-k", "-s", "-S", "-N", "--max-time", "240"]).args(arguments).arg(self.url(target));
        command.stdin(Stdio::null());
        command
    }

    pub fn curl(&self, arguments: &[&str], target: &str) -> Output {
        self.curl_command(arguments, target).output().expect("curl; scripts/test installs it")
    }

    /// The status of an answer. Over HTTP/1.1: curl may take an answer that came before the request's body for an error.
    pub fn code(&self, arguments: &[&str], target: &str) -> String {
        let output = self.curl(&[&["--http1.1", "-o", "/dev/null", "-w", "%{http_code}"], arguments].concat(), target);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON of an answer.
    #[track_caller]
    pub fn json(&self, arguments: &[&str], target: &str) -> Value {
        let output = self.curl(&[&["-f"], arguments].concat(), target);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // They end their workers on SIGTERM; killed, they would leave them behind.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Longer than it takes until a comment line comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream that curl follows.
pub struct Followed {
    curl: Child,
    lines: mpsc::Receiver<String>,
    id: RefCell<String>,
}

impl Followed {
    pub fn open(proxy: &Proxy, http: Http, arguments: &[&str], target: &str) -> Followed {
        let version = if http == Http::One { "--http1.1" } else { "--http2" };
        let arguments = [&["-i", version], arguments].concat();
        let mut curl = proxy.curl_command(&arguments, target).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(curl.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Followed { curl, lines, id: RefCell::default() }
    }

    /// The next line that begins so, without that.
    #[track_caller]
    pub fn next(&self, prefix: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line {prefix:?}: {error}"));
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.id.borrow_mut());
            }
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.trim().to_owned();
            }
        }
    }

    /// What a browser would send as `Last-Event-ID` after what was looked at.
    pub fn id(&self) -> String {
        self.id.borrow().clone()
    }

    /// Whether a line begins so among those that came and were not looked at.
    pub fn has(&self, prefix: &str) -> bool {
        self.lines.try_iter().any(|line| line.starts_with(prefix))
    }

    /// The next event of this type.
    #[track_caller]
    pub fn event(&self, kind: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.next("data: ")).unwrap();
            if event["type"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}
