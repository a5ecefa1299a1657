//! One connection to one server: dialled, greeted, and given up as soon as it does not answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::kv::redis::address::{Address, Credentials, Endpoint};
use crate::limits::{REDIS_CONNECT, REDIS_IN_FLIGHT, REDIS_PUSHES};
use crate::runtime::tls::client_config;

/// How to connect, whatever the server.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<TlsConnector>,
    who: RedisConnectionInfo,
}

/// A connection. What is under way when it is dropped fails.
#[derive(Debug)]
pub struct Link {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    ended: watch::Receiver<bool>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn identity(credentials: &Credentials) -> RedisConnectionInfo {
    // RESP3 is what carries invalidations.
    let mut who = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("fanfare", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &credentials.user {
        who = who.set_username(user);
    }
    if let Some(password) = &credentials.password {
        who = who.set_password(password);
    }
    who
}

impl Dialer {
    /// Reads the certificates that are to be trusted, for an address that asks for TLS.
    ///
    /// # Errors
    /// Says which file is unreadable, and why.
    pub fn new(address: &Address) -> Result<Dialer, String> {
        let tls =
            if address.tls { Some(TlsConnector::from(client_config(address.authorities.as_deref())?)) } else { None };
        Ok(Dialer { tls, who: identity(&address.credentials).set_db(address.database) })
    }

    /// The same way to somebody who knows us by another name: a Sentinel.
    pub fn as_other(&self, credentials: &Credentials) -> Dialer {
        Dialer { tls: self.tls.clone(), who: identity(credentials) }
    }

    /// Connects. What the server says unasked goes to `pushes`.
    ///
    /// # Errors
    /// Why not, within [`REDIS_CONNECT`].
    pub async fn connect(&self, endpoint: &Endpoint, pushes: Option<Pushes>) -> Result<Link, String> {
        match timeout(REDIS_CONNECT, self.connect_untimed(endpoint, pushes)).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(problem)) => Err(format!("{endpoint}: {problem}")),
            Err(_) => Err(format!("{endpoint}: no connection within {REDIS_CONNECT:?}")),
        }
    }

    async fn connect_untimed(&self, endpoint: &Endpoint, pushes: Option<Pushes>) -> Result<Link, String> {
        let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(REDIS_IN_FLIGHT);
        let config = match pushes {
            Some(pushes) => config.set_push_sender(move |push| pushes.take(push)),
            None => config,
        };
        let said = |error: RedisError| explain(&error);
        match &self.tls {
            None => {
                let (connection, driver) =
                    MultiplexedConnection::new_with_config(&self.who, stream, config).await.map_err(said)?;
                Ok(Link::new(connection, driver))
            }
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|_| "a certificate cannot be for this name".to_owned())?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                let (connection, driver) =
                    MultiplexedConnection::new_with_config(&self.who, stream, config).await.map_err(said)?;
                Ok(Link::new(connection, driver))
            }
        }
    }
}

/// What the server said, for an operator.
pub fn explain(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

impl Link {
    fn new(connection: MultiplexedConnection, driver: impl Future<Output = ()> + 'static) -> Link {
        let (ends, ended) = watch::channel(false);
        let driver = tokio::task::spawn_local(async move {
            driver.await;
            let _ = ends.send(true);
        });
        Link { connection, driver, ended }
    }

    /// Waits until the connection is gone.
    pub async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Sends one command.
    pub async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        self.connection.clone().send_packed_command(command).await.and_then(Value::extract_error)
    }

    /// Sends commands together. The answers stand in their order, errors of the server among them.
    pub async fn send_all(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let count = commands.len();
        self.connection.clone().send_packed_commands(commands, 0, count).await
    }

    /// Hears a channel from now on, or no longer; what is said there goes to the connection's pushes.
    pub async fn hear(&self, channel: &str, wanted: bool, limit: Duration) -> Result<(), String> {
        let mut connection = self.connection.clone();
        let asked =
            async { if wanted { connection.subscribe(channel).await } else { connection.unsubscribe(channel).await } };
        match timeout(limit, asked).await {
            Ok(answer) => answer.map_err(|error| explain(&error)),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    /// Sends one command that must be answered within `limit`.
    pub async fn ask(&self, command: &Cmd, limit: Duration) -> Result<Value, String> {
        match timeout(limit, self.send(command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }
}

/// Takes what a server says unasked, and notes when that was too much to keep.
#[derive(Debug, Clone)]
pub struct Pushes {
    sender: mpsc::Sender<redis::PushInfo>,
    overflown: Arc<std::sync::atomic::AtomicBool>,
}

/// The other end of [`Pushes`].
#[derive(Debug)]
pub struct Pushed {
    receiver: RefCell<mpsc::Receiver<redis::PushInfo>>,
    overflown: Arc<std::sync::atomic::AtomicBool>,
}

/// A way for what servers say unasked.
pub fn pushes() -> (Pushes, Rc<Pushed>) {
    let (sender, receiver) = mpsc::channel(REDIS_PUSHES);
    let overflown = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let pushed = Pushed { receiver: RefCell::new(receiver), overflown: Arc::clone(&overflown) };
    (Pushes { sender, overflown }, Rc::new(pushed))
}

impl Pushes {
    fn take(&self, push: redis::PushInfo) -> Result<(), ()> {
        self.sender.try_send(push).map_err(|_| self.overflown.store(true, std::sync::atomic::Ordering::Release))
    }
}

impl Pushed {
    /// The next, and whether some were lost before it.
    pub async fn next(&self) -> Option<(redis::PushInfo, bool)> {
        let push = std::future::poll_fn(|context| self.receiver.borrow_mut().poll_recv(context)).await?;
        Some((push, self.overflown.swap(false, std::sync::atomic::Ordering::AcqRel)))
    }
}
