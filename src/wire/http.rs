//! The words of HTTP/1.1 (RFC 9110, RFC 9112) that every role shares: methods, errors, bodies, percent-encoding.

use std::borrow::Cow;
use std::ops::Range;

/// A request's method. Only those that some resource answers have a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// Any other token.
    Other,
}

impl Method {
    /// From the request line.
    pub fn from_token(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// A request that cannot be served, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// The status code.
    pub status: u16,
    /// What a person can act on.
    pub detail: Cow<'static, str>,
    /// `Allow`, for 405.
    pub allow: Option<String>,
    /// `WWW-Authenticate`, for requests whose credentials are missing or will not do.
    pub www_authenticate: Option<Box<str>>,
    /// `Retry-After` in seconds, for 429 and 503 that ask for another wait than usual.
    pub retry_after: Option<u32>,
}

impl HttpError {
    /// An error with a status and a detail.
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError { status, detail: detail.into(), allow: None, www_authenticate: None, retry_after: None }
    }

    /// 400.
    pub fn bad(detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError::new(400, detail)
    }

    /// 404 for a path that is not here.
    pub fn not_found() -> HttpError {
        HttpError::new(404, "there is nothing at this path; the README lists what this node serves")
    }

    /// 405 with what is allowed.
    pub fn method(allow: String) -> HttpError {
        let detail = format!("this path takes {allow}");
        HttpError { allow: Some(allow), ..HttpError::new(405, detail) }
    }

    /// 503 that is worth retrying.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError::new(503, detail)
    }
}

/// Decodes `%XX` (RFC 3986 section 2.1), and `+` as a space where `form` says that the text is a query. Bad escapes and
/// text that is not UTF-8 are errors.
pub fn percent_decode(text: &str, form: bool) -> Result<Cow<'_, str>, HttpError> {
    if !text.bytes().any(|byte| byte == b'%' || (form && byte == b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(HttpError::bad("a % in the request's target is not followed by two hex digits"));
                };
                bytes.push((high << 4 | low) as u8);
            }
            b'+' if form => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| HttpError::bad("the request's target is not UTF-8 after decoding"))
}

/// Undoes the chunked transfer coding (RFC 9112 section 7.1), piece by piece as bytes arrive.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: ChunkState,
    /// Bytes of the line or trailer section being read: bounds what a sender may put into extensions.
    line_bytes: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    SizeStart,
    Size(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

/// Longest size line or trailer section.
const CHUNK_LINE_BYTES_MAX: u32 = 4096;
/// More than any body that is taken, and far from overflow.
const CHUNK_BYTES_MAX: u64 = 1 << 40;

/// What [`Chunked::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data at this place of the input; go on behind it.
    Data(Range<usize>),
    /// All of the input is used up, more must come.
    More,
    /// The body ended; this many bytes of the input belonged to it.
    End(usize),
}

impl Chunked {
    /// Reads `input` from `at`.
    pub fn next(&mut self, input: &[u8], mut at: usize) -> Result<Piece, HttpError> {
        use ChunkState::*;
        let bad = |what: &'static str| Err(HttpError::bad(what));
        while let Some(&byte) = input.get(at) {
            if !matches!(self.state, Data(_)) {
                self.line_bytes += 1;
                if self.line_bytes > CHUNK_LINE_BYTES_MAX {
                    return bad("a chunk's size line, or the trailers, are too long");
                }
            }
            self.state = match self.state {
                SizeStart => match char::from(byte).to_digit(16) {
                    Some(digit) => Size(u64::from(digit)),
                    None => return bad("a chunk's size is not a hex number"),
                },
                Size(size) => match (byte, char::from(byte).to_digit(16)) {
                    (_, Some(digit)) => {
                        let size = size << 4 | u64::from(digit);
                        if size > CHUNK_BYTES_MAX {
                            return bad("a chunk's size is absurd");
                        }
                        Size(size)
                    }
                    (b'\r', _) => SizeLf(size),
                    (b';' | b' ' | b'\t', _) => Extension(size),
                    _ => return bad("a chunk's size is not a hex number"),
                },
                Extension(size) => match byte {
                    b'\r' => SizeLf(size),
                    b'\n' => return bad("a bare line feed in a chunk's size line"),
                    _ => Extension(size),
                },
                SizeLf(size) => match (byte, size) {
                    (b'\n', 0) => TrailerStart,
                    (b'\n', size) => Data(size),
                    _ => return bad("a chunk's size line does not end in CR LF"),
                },
                Data(left) => {
                    let taken = left.min((input.len() - at) as u64);
                    self.state = if taken == left { DataCr } else { Data(left - taken) };
                    self.line_bytes = 0;
                    return Ok(Piece::Data(at..at + taken as usize));
                }
                DataCr if byte == b'\r' => DataLf,
                DataLf if byte == b'\n' => SizeStart,
                DataCr | DataLf => return bad("a chunk is longer than its size says"),
                TrailerStart => {
                    if byte == b'\r' {
                        EndLf
                    } else {
                        TrailerLine
                    }
                }
                TrailerLine => {
                    if byte == b'\r' {
                        TrailerLf
                    } else {
                        TrailerLine
                    }
                }
                TrailerLf if byte == b'\n' => TrailerStart,
                EndLf if byte == b'\n' => Done,
                TrailerLf | EndLf => return bad("a trailer line does not end in CR LF"),
                Done => return Ok(Piece::End(at)),
            };
            at += 1;
            if self.state == Done {
                return Ok(Piece::End(at));
            }
        }
        Ok(Piece::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let (mut decoder, mut body) = (Chunked::default(), Vec::new());
        for piece in pieces {
            let mut at = 0;
            loop {
                match decoder.next(piece, at)? {
                    Piece::Data(range) => {
                        body.extend_from_slice(&piece[range.clone()]);
                        at = range.end;
                    }
                    Piece::More => break,
                    Piece::End(end) => return Ok(Some((body, end))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn chunk_errors() {
        for text in ["x\r\n", "5\nhello", "5\r\nhelloo\r\n", "-1\r\n", "\r\n", "ffffffffffffff\r\n", "0\r\nA: b\r\r\n"]
        {
            assert!(decode(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(decode(&[format!("1;{}", "x".repeat(5000)).as_bytes()]).is_err());
        assert_eq!(decode(&[b"0\r\nA: b\r\n\r\nrest"]).unwrap(), Some((vec![], 11)));
    }

    #[test]
    fn percent_decoding() {
        assert_eq!(percent_decode("a%20b+c", false).unwrap(), "a b+c");
        assert_eq!(percent_decode("a%20b+c", true).unwrap(), "a b c");
        assert_eq!(percent_decode("%25%34%31", false).unwrap(), "%41");
        for text in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert!(percent_decode(text, false).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn chunked_bodies_survive_any_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&wire[from..cut]);
                from = cut;
            }
            pieces.push(&wire[from..]);
            let (body, end) = decode(&pieces).unwrap().expect("the body is complete");
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(end, wire.len() - from);
        }
    }
}
