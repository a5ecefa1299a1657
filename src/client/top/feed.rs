//! Snapshots of a node as they come, also after it was away.

use std::io::{self, Read as _};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::client::http::{self, Error, Request, Url};
use crate::client::sse::Parser;
use crate::wire::snapshot::Snapshot;

/// One comes each second: after so long without, the connection is as good as gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Until the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be shown next.
#[derive(Debug)]
pub enum News {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// The node is away, for this reason, and is tried again.
    Lost(String),
    /// It will never do.
    Refused(Error),
}

/// Where snapshots come from.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The internal listener.
    pub url: Url,
    /// The cluster secret.
    pub secret: Option<String>,
}

impl Feed {
    /// Gives the text of each snapshot to `take` until it has enough, and says why there are no more.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses, and when the stream ends before `take` has enough.
    pub fn read(&self, mut take: impl FnMut(String) -> bool) -> Result<(), Error> {
        let headers = [("Accept", "text/event-stream")];
        let (path, token) = ("/v1/watch", self.secret.as_deref());
        let request = Request { path, token, headers: &headers, patience: Some(SILENCE), json: None };
        let mut answer = http::send(&self.url, &request)?;
        let (mut parser, mut events, mut bytes) = (Parser::default(), Vec::new(), [0; 16 * 1024]);
        loop {
            let read = match answer.read(&mut bytes) {
                Ok(0) => return Err(io::Error::other("the node ended the stream").into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(io::Error::other(format!("nothing came for {} s", SILENCE.as_secs())).into());
                }
                Err(error) => return Err(error.into()),
            };
            parser.push(&bytes[..read], &mut events);
            for event in events.drain(..).filter(|event| event.name == "snapshot") {
                if take(event.data) {
                    return Ok(());
                }
            }
        }
    }

    /// Tells `to` of each, for as long as somebody hears it.
    pub fn follow(&self, to: &SyncSender<News>) {
        let mut is_heard = true;
        while is_heard {
            let ended = self.read(|text| {
                let news = match parse(&text) {
                    Ok(snapshot) => News::Snapshot(Box::new(snapshot)),
                    Err(error) => News::Lost(error.to_string()),
                };
                is_heard = to.send(news).is_ok();
                !is_heard
            });
            let news = match ended {
                Ok(()) => return,
                Err(error) if is_final(&error) => News::Refused(error),
                Err(error) => News::Lost(error.to_string()),
            };
            is_heard = !matches!(news, News::Refused(_));
            is_heard &= to.send(news).is_ok();
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether trying again is of no use: a node that begins anew, or has its hands full, is none of these.
pub fn is_final(error: &Error) -> bool {
    matches!(error, Error::Url(_) | Error::Trust(_) | Error::Status { status: 400..=404, .. })
}

/// The snapshot in a text.
///
/// # Errors
/// [`Error::Malformed`] where it is none.
pub fn parse(text: &str) -> Result<Snapshot, Error> {
    serde_json::from_str(text).map_err(|error| Error::Malformed(format!("its snapshot: {error}")))
}
