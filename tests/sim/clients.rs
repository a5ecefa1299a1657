//! What all simulated clients have in common.

use fanfare::wire::chunked::{Chunked, Piece};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

/// When a client has waited so long for an answer it gives up and tries again.
pub const PATIENCE: u64 = 5 * SECOND;
/// Reads an answer's head, and its body piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    pub status: Option<u16>,
    chunked: Option<Chunked>,
    pub length: Option<usize>,
    pub body: Vec<u8>,
}

impl Reader {
    /// Takes bytes; what they bring of the body is in `body`. False if they are no HTTP.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        if self.status.is_none() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return true };
            let text = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            let Some(status) = text.get(9..12).and_then(|status| status.parse().ok()) else { return false };
            self.status = Some(status);
            self.chunked = text.contains("transfer-encoding: chunked").then(Chunked::default);
            self.length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let rest = self.head.split_off(end + 4);
            return self.push_body(&rest);
        }
        self.push_body(std::mem::take(&mut bytes))
    }

    fn push_body(&mut self, bytes: &[u8]) -> bool {
        let Some(chunked) = &mut self.chunked else {
            self.body.extend_from_slice(bytes);
            return true;
        };
        let mut at = 0;
        loop {
            match chunked.next(bytes, at) {
                Ok(Piece::Data(range)) => {
                    at = range.end;
                    self.body.extend_from_slice(&bytes[range]);
                }
                Ok(Piece::More | Piece::End(_)) => return true,
                Err(_) => return false,
            }
        }
    }
}
