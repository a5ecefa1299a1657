//! Reading answers of other nodes (RFC 9112), on httparse. Nodes delimit their answers by `Content-Length` only.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::binary::Malformed;
use super::connection_id::NodeId;
use super::http::trim;
use super::request::head_end;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REPLY_BYTES_MAX};

/// An answer whose bytes are all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status, 200 or higher.
    pub status: u16,
    /// What it says of its node's clock.
    pub clock: Option<ClockSaid>,
    /// The connection ends with it: what was asked behind it was not heard.
    pub closes: bool,
    /// Where its body is.
    pub body: Range<usize>,
}

/// What a node's clock showed when it answered: `Fanfare-Clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSaid {
    /// The node.
    pub node: NodeId,
    /// Unix time in microseconds.
    pub unix_us: u64,
}

impl ClockSaid {
    /// Reads the header's value; `None` for what says nothing.
    pub fn parse(text: &str) -> Option<ClockSaid> {
        let (node, unix_us) = text.split_once(' ')?;
        Some(ClockSaid { node: node.parse().ok()?, unix_us: unix_us.parse().ok()? })
    }
}

/// Finds answers in what a connection brings; remembers how far it got in one that is not complete.
#[derive(Debug, Default)]
pub struct Replies {
    scanned: usize,
    head: Option<Reply>,
}

impl Replies {
    /// The answer at the start of `input`, which ends where its body does; `None` until all of it is there.
    pub fn next(&mut self, input: &[u8]) -> Result<Option<Reply>, Malformed> {
        if self.head.is_none() {
            let end = head_end(input, self.scanned.min(input.len()));
            let Some(end) = end.map_err(|_| Malformed("a line of an answer's head ends in a bare line feed"))? else {
                if input.len() > HEAD_BYTES_MAX {
                    return Err(Malformed("the answer's head is too long"));
                }
                self.scanned = input.len().saturating_sub(3);
                return Ok(None);
            };
            self.head = Some(parse(&input[..end])?);
        }
        Ok(self.head.take_if(|head| head.body.end <= input.len()).inspect(|_| self.scanned = 0))
    }
}

fn parse(head: &[u8]) -> Result<Reply, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut headers);
    if !matches!(parsed, Ok(httparse::Status::Complete(_))) {
        return Err(Malformed("this is no HTTP answer"));
    }
    let status = response.code.ok_or(Malformed("an answer without a status"))?;
    if status < 200 {
        return Err(Malformed("an interim answer that nobody asked for"));
    }
    let (mut length, mut closes, mut clock) = (None, response.version != Some(1), None);
    for header in response.headers.iter() {
        let text = trim(std::str::from_utf8(header.value).unwrap_or(""));
        if header.name.eq_ignore_ascii_case("content-length") {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse::<usize>().ok().filter(|value| is_number && *value <= REPLY_BYTES_MAX);
            let value = value.ok_or(Malformed("the answer's length is none that is taken"))?;
            if length.replace(value).is_some() {
                return Err(Malformed("two lengths"));
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Malformed("the answer has a transfer coding"));
        } else if header.name.eq_ignore_ascii_case("fanfare-clock") {
            clock = ClockSaid::parse(text);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes |= text.split(',').any(|option| trim(option).eq_ignore_ascii_case("close"));
        }
    }
    let length = match status {
        204 | 304 => 0,
        _ => length.ok_or(Malformed("the answer does not say its length"))?,
    };
    Ok(Reply { status, clock, closes, body: head.len()..head.len() + length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 503 Service \
                         Unavailable\r\nConnection: close\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\n\r\n";

    /// Feeds `pieces`, and gives the statuses and bodies found.
    fn read(pieces: &[&[u8]]) -> Result<Vec<(u16, bool, Vec<u8>)>, Malformed> {
        let (mut replies, mut input, mut found) = (Replies::default(), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(reply) = replies.next(&input)? {
                found.push((reply.status, reply.closes, input[reply.body.clone()].to_vec()));
                input.drain(..reply.body.end);
            }
        }
        Ok(found)
    }

    #[test]
    fn refuses_what_has_no_certain_end() {
        for head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(read(&[head.as_bytes()]).is_err(), "{head}");
        }
        assert!(read(&[&vec![b'x'; HEAD_BYTES_MAX + 1]]).is_err());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(mut cuts in prop::collection::vec(0..TWO.len(), 0..5)) {
            cuts.extend([0, TWO.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &TWO[pair[0]..pair[1]]).collect();
            let found = read(&pieces).unwrap();
            let expected =
                vec![(200, false, b"hello".to_vec()), (503, true, b"{}".to_vec()), (204, false, Vec::new())];
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn garbage_never_panics(at in 0..TWO.len(), value: u8, noise in prop::collection::vec(any::<u8>(), 0..99)) {
            let mut bytes = TWO.to_vec();
            bytes[at] = value;
            let _ = (read(&[&bytes]), read(&[&noise]));
        }
    }
}
