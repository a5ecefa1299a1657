//! Whether a connection pooler stands before the server, which may give each transaction another connection of its own.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Error};

/// A server tells each connection its process, by which statements can be cancelled. A pooler cannot hand that on, since the
/// process changes, and makes up one of its own. So where what was told is not the process that answers, nothing that is
/// set or prepared may be there for the next transaction. It may be, with one connection to the server for each to the
/// pooler: that cannot be told from a pool that is idle, and what works without works there, too.
pub(crate) async fn is_between(client: &Client) -> Result<bool, Error> {
    let answers: i32 = client.query_typed_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    Ok(told_process(client).await != Some(answers))
}

/// The process that the connection was told.
async fn told_process(client: &Client) -> Option<i32> {
    let paper = Paper::default();
    client.cancel_token().cancel_query_raw(paper.clone(), paper.clone()).await.ok()?;
    let written = paper.0.borrow();
    // Its length, a code, the process, and a key, in network order.
    let request: &[u8; 16] = written.last_chunk()?;
    let [_, _, process, _] = request.as_chunks::<4>().0 else { return None };
    Some(i32::from_be_bytes(*process))
}

/// What a request to cancel is written to, which goes nowhere. Asked for TLS it agrees and goes on as it is.
#[derive(Debug, Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl AsyncRead for Paper {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paper {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Paper {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl TlsConnect<Paper> for Paper {
    type Stream = Paper;
    type Error = Infallible;
    type Future = Ready<Result<Paper, Infallible>>;

    fn connect(self, stream: Paper) -> Self::Future {
        ready(Ok(stream))
    }
}
