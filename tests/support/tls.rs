//! Clients that speak TLS, and a node with certificates for them.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use super::DEADLINE;
use super::certificate::certified;
use super::http::request;
use super::node::Node;
use super::sse::{Chunks, Message, Messages};

/// Writes a certificate for a name, and its key, into a folder.
pub fn put(folder: &Path, name: &str) -> [PathBuf; 2] {
    let (certificate, key) = certified(&[name]);
    let paths = ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
    std::fs::write(&paths[0], certificate).expect("a folder of the test's");
    std::fs::write(&paths[1], key).expect("a folder of the test's");
    paths
}

/// A node that speaks TLS as `a.example`, and perhaps as others.
pub struct Secured {
    pub node: Node,
    pub folder: TempDir,
    /// Its TLS listener.
    pub address: SocketAddr,
}

impl Secured {
    pub fn start(names: &[&str], flags: &[&str]) -> Secured {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pairs: Vec<[PathBuf; 2]> = names.iter().map(|name| put(folder.path(), name)).collect();
        let list = |at: usize| pairs.iter().map(|pair| pair[at].to_str().unwrap()).collect::<Vec<_>>().join(",");
        let (certificates, keys) = (list(0), list(1));
        let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &certificates, "--tls-key", &keys];
        let node = Node::in_folder(folder.path(), &[&tls[..], flags].concat());
        let address = node.secure();
        Secured { node, folder, address }
    }

    /// The file of a name's certificate.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    /// A client that trusts a name's certificate and nobody else.
    pub fn config(&self, name: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate(name)).expect("PEM")).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// A connection whose handshake is done.
    pub fn connect(&self, name: &str) -> io::Result<Tls> {
        Tls::connect(TcpStream::connect(self.address)?, &self.config(name), name)
    }

    /// What an answer to one request is, whole.
    pub fn get(&self, target: &str) -> String {
        self.connect("a.example").expect("a handshake").last("GET", target, b"")
    }

    pub fn view(&self, query: &str) -> Viewer {
        Viewer::open(self.connect("a.example").expect("a handshake"), query)
    }
}

/// A connection by TLS.
pub struct Tls(pub StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    pub fn connect(socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Tls> {
        socket.set_read_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a client"), socket);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Tls(tls))
    }

    /// The answer to a last request, whole. Without a proper end of TLS it fails.
    pub fn last(&mut self, method: &str, target: &str, body: &[u8]) -> String {
        self.0.write_all(&request(method, target, &[("Connection", "close")], body)).expect("the node reads");
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).expect("an answer with a proper end");
        answer
    }
}

/// A stream by TLS.
pub struct Viewer {
    pub tls: Tls,
    chunks: Chunks,
    messages: Messages,
    come: VecDeque<Message>,
}

impl Viewer {
    /// Opens a stream, and waits until it is connected.
    pub fn open(mut tls: Tls, query: &str) -> Viewer {
        tls.0.write_all(&request("GET", &format!("/v1/events?{query}"), &[], b"")).expect("the node reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.0.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let mut viewer =
            Viewer { tls, chunks: Chunks::default(), messages: Messages::default(), come: VecDeque::new() };
        while viewer.next().expect("it is connected").name != "connected" {}
        viewer
    }

    /// The next message; none at the stream's end.
    pub fn next(&mut self) -> Option<Message> {
        let mut buffer = [0; 16 * 1024];
        while self.come.is_empty() {
            let count = self.tls.0.read(&mut buffer).expect("a stream with a proper end");
            let mut body = Vec::new();
            let over = self.chunks.feed(&buffer[..count], &mut body);
            self.messages.feed(&body, |message| self.come.push_back(message));
            if (count == 0 || over) && self.come.is_empty() {
                return None;
            }
        }
        self.come.pop_front()
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        self.next().expect("an event").json()
    }
}
