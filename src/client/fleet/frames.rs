//! Takes an event stream's bytes apart as they come: HTTP head, chunks, frames. Whole frames are handed out where
//! they lie in the shared read buffer; only a frame that a read cut in two is copied.
use memchr::memchr;

/// Bytes of a head or of a frame that is still incomplete at most.
const PARTIAL_BYTES_MAX: usize = 1024 * 1024;
/// Capacity that a connection keeps for its next cut frame; a larger buffer is given back.
const PARTIAL_BYTES_KEPT: usize = 1024;

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the answer's head is not HTTP")]
    Head,
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("a chunk's size is bad")]
    Chunk,
    #[error("a frame is longer than 1 MiB")]
    TooLong,
    #[error("the server ended the stream")]
    Ended,
}

/// Where in the HTTP framing the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Head,
    /// No chunks: all that comes is body.
    Plain,
    /// In a chunk's size line; the flag says that its digits are over.
    Size {
        value: u32,
        digits_over: bool,
    },
    /// In a chunk, with that many bytes to come.
    Data(u32),
    /// At the line end behind a chunk.
    DataEnd,
}

/// One connection's place in its stream.
#[derive(Debug)]
pub struct Stream {
    framing: Framing,
    partial: Vec<u8>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { framing: Framing::Head, partial: Vec::new() }
    }
}

impl Stream {
    /// Whether the answer's head is complete.
    pub fn has_head(&self) -> bool {
        self.framing != Framing::Head
    }

    /// Whether the next byte begins a frame, and a chunk where there are chunks.
    pub fn at_frame(&self) -> bool {
        let at_chunk = matches!(self.framing, Framing::Plain | Framing::Size { value: 0, digits_over: false });
        at_chunk && self.partial.is_empty()
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        !matches!(self.framing, Framing::Plain | Framing::Head)
    }

    /// Takes the next bytes and hands out the frames that they complete, each with its blank line.
    ///
    /// # Errors
    /// When the stream cannot be read on; frames before that were handed out.
    pub fn push(&mut self, mut bytes: &[u8], on_frame: &mut impl FnMut(&[u8])) -> Result<(), Broken> {
        if self.framing == Framing::Head {
            bytes = self.take_head(bytes)?;
        }
        while !bytes.is_empty() {
            match &mut self.framing {
                Framing::Head => unreachable!("take_head leaves no bytes before the head's end"),
                Framing::Plain => {
                    return frames(&mut self.partial, bytes, on_frame);
                }
                Framing::Data(left) => {
                    let (chunk, rest) = bytes.split_at(bytes.len().min(*left as usize));
                    // A chunk's part is never longer than `left`, which is a u32.
                    *left -= chunk.len() as u32;
                    if *left == 0 {
                        self.framing = Framing::DataEnd;
                    }
                    frames(&mut self.partial, chunk, on_frame)?;
                    bytes = rest;
                }
                Framing::DataEnd => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        return Ok(());
                    };
                    bytes = &bytes[end + 1..];
                    self.framing = Framing::Size { value: 0, digits_over: false };
                }
                Framing::Size { value, digits_over } => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    match (byte, char::from(byte).to_digit(16)) {
                        (b'\n', _) if *value == 0 => return Err(Broken::Ended),
                        (b'\n', _) => self.framing = Framing::Data(*value),
                        (b'\r' | b';' | b' ', _) => *digits_over = true,
                        (_, Some(digit)) if !*digits_over => {
                            if *value >> 28 != 0 {
                                return Err(Broken::Chunk);
                            }
                            *value = *value << 4 | digit;
                        }
                        (_, None) if !*digits_over => return Err(Broken::Chunk),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Collects the head; returns what stands behind it, which is empty while it is incomplete.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut slots);
        let Ok(parsed) = answer.parse(&self.partial) else {
            return Err(Broken::Head);
        };
        let httparse::Status::Complete(length) = parsed else {
            let fits = self.partial.len() <= PARTIAL_BYTES_MAX;
            return if fits { Ok(&[]) } else { Err(Broken::Head) };
        };
        match answer.code {
            Some(200) => {}
            Some(code) => return Err(Broken::Status(code)),
            None => return Err(Broken::Head),
        }
        let chunked = answer.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding") && header.value.eq_ignore_ascii_case(b"chunked")
        });
        self.framing = if chunked { Framing::Size { value: 0, digits_over: false } } else { Framing::Plain };
        self.partial = Vec::new();
        Ok(&bytes[length - before..])
    }
}

/// Hands out the frames of a piece of the body, the first of which may have begun in an earlier piece.
fn frames(partial: &mut Vec<u8>, mut bytes: &[u8], on_frame: &mut impl FnMut(&[u8])) -> Result<(), Broken> {
    if !partial.is_empty() {
        let end =
            if partial.last() == Some(&b'\n') && bytes.first() == Some(&b'\n') { Some(1) } else { frame_end(bytes) };
        let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        partial.extend_from_slice(piece);
        if end.is_none() {
            return if partial.len() <= PARTIAL_BYTES_MAX { Ok(()) } else { Err(Broken::TooLong) };
        }
        hand_out(partial, on_frame);
        partial.clear();
        partial.shrink_to(PARTIAL_BYTES_KEPT);
        bytes = rest;
    }
    loop {
        while let [b'\n', rest @ ..] = bytes {
            bytes = rest;
        }
        let Some(end) = frame_end(bytes) else {
            break;
        };
        hand_out(&bytes[..end], on_frame);
        bytes = &bytes[end..];
    }
    partial.extend_from_slice(bytes);
    Ok(())
}

/// Hands out a frame without the comment lines before it, which are no part of it; a block of nothing else is no frame.
fn hand_out(mut frame: &[u8], on_frame: &mut impl FnMut(&[u8])) {
    while frame.first() == Some(&b':') {
        let end = memchr(b'\n', frame).expect("a frame's lines end");
        frame = &frame[end + 1..];
    }
    if frame != b"\n" {
        on_frame(frame);
    }
}

/// Where the first frame ends, blank line included. Nearly every frame is one line, so looking for a line end and then
/// at its neighbour beats a search for the pair.
fn frame_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + memchr(b'\n', &bytes[from..])?;
        if bytes.get(end + 1)? == &b'\n' {
            return Some(end + 2);
        }
        from = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = ": hi\n\n:\n:\nevent: connected\ndata: {}\n\ndata: {\"a\":1}\n\n\nid: 5\ndata: b\n\ndata: cut";
    const WANTED: [&str; 3] = ["event: connected\ndata: {}\n\n", "data: {\"a\":1}\n\n", "id: 5\ndata: b\n\n"];

    fn plain() -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{BODY}").into_bytes()
    }

    fn chunked(chunk_bytes: usize) -> Vec<u8> {
        let mut out = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in BODY.as_bytes().chunks(chunk_bytes) {
            out.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut stream = Stream::default();
        let mut out = Vec::new();
        for piece in pieces {
            stream.push(piece, &mut |frame| out.push(String::from_utf8(frame.to_vec()).unwrap())).unwrap();
        }
        out
    }

    #[test]
    fn frames_cut_at_every_byte() {
        for whole in [plain(), chunked(1), chunked(7), chunked(1000)] {
            for cut in 0..=whole.len() {
                assert_eq!(read(&[&whole[..cut], &whole[cut..]]), WANTED, "cut at {cut}");
            }
            let bytes: Vec<_> = whole.chunks(1).collect();
            assert_eq!(read(&bytes), WANTED);
        }
    }

    #[test]
    fn bad_streams_are_told_apart() {
        let push = |text: &str| Stream::default().push(text.as_bytes(), &mut |_| {});
        assert_eq!(push("HTTP/1.1 503 Busy\r\n\r\n"), Err(Broken::Status(503)));
        assert_eq!(push("SSH-2.0\r\n"), Err(Broken::Head));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(push(&format!("{head}zz\r\n")), Err(Broken::Chunk));
        assert_eq!(push(&format!("{head}123456789\r\n")), Err(Broken::Chunk));
        assert_eq!(push(&format!("{head}0\r\n\r\n")), Err(Broken::Ended));
        let mut stream = Stream::default();
        stream.push(b"HTTP/1.1 200 OK\r\n\r\n", &mut |_| {}).unwrap();
        let long = vec![b'x'; PARTIAL_BYTES_MAX];
        stream.push(&long, &mut |_| {}).unwrap();
        assert_eq!(stream.push(&long, &mut |_| {}), Err(Broken::TooLong));
    }
}
