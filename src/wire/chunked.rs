//! The chunked transfer coding of requests (RFC 9112 section 7.1), undone. What the grammar does not allow is refused: a
//! proxy in front may have read it otherwise, and then disagrees with this node on where the next request begins.

use std::ops::Range;

use super::http::{HttpError, is_token_byte, is_value_byte};

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
    Extension(u64, Extension),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// A place in a chunk's extensions, `*( BWS ";" BWS name [ BWS "=" BWS value ] )`. They mean nothing here, and are read
/// all the same: where they end is where the chunk begins, and two readers must not differ on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    NameStart,
    Name,
    AfterName,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    QuotedEnd,
}

impl Extension {
    /// The place behind `byte`; none where it may not stand.
    fn next(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        let is_space = matches!(byte, b' ' | b'\t');
        Some(match self {
            BeforeSemicolon | NameStart | AfterName | ValueStart if is_space => self,
            Name if is_space => AfterName,
            Token | QuotedEnd if is_space => BeforeSemicolon,
            BeforeSemicolon | Name | AfterName | Token | QuotedEnd if byte == b';' => NameStart,
            NameStart | Name if is_token_byte(byte) => Name,
            Name | AfterName if byte == b'=' => ValueStart,
            ValueStart if byte == b'"' => Quoted,
            ValueStart | Token if is_token_byte(byte) => Token,
            Quoted if byte == b'"' => QuotedEnd,
            Quoted if byte == b'\\' => Escaped,
            Quoted | Escaped if is_value_byte(byte) => Quoted,
            _ => return None,
        })
    }

    /// Whether the extensions may end here.
    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::QuotedEnd)
    }
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
                    (b';' | b' ' | b'\t', _) => {
                        let at = self::Extension::BeforeSemicolon.next(byte).expect("all three may stand here");
                        Extension(size, at)
                    }
                    _ => return bad("a chunk's size is not a hex number"),
                },
                Extension(size, at) if byte == b'\r' && at.may_end() => SizeLf(size),
                Extension(size, at) => match at.next(byte) {
                    Some(at) => Extension(size, at),
                    None => return bad("a chunk's extensions are not ;name=value"),
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
                TrailerStart if byte == b'\r' => EndLf,
                TrailerStart | TrailerName if is_token_byte(byte) => TrailerName,
                TrailerName if byte == b':' => TrailerValue,
                TrailerValue if byte == b'\r' => TrailerLf,
                TrailerValue if is_value_byte(byte) => TrailerValue,
                TrailerStart | TrailerName | TrailerValue => return bad("a trailer is not a line of name: value"),
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
            .into_iter()
            .chain([
                "0\r\n\n",
                "0\r\nA: b\n\r\n",
                "0\r\nA: b\n\n",
                "0\r\nA: b\r\n c\r\n\r\n",
                "0\r\nA\r\n\r\n",
                "0\r\n: b\r\n\r\n",
                "0\r\nA : b\r\n\r\n",
                "0\r\nA: \0\r\n\r\n",
                "0\n\r\n",
                "0\r\r\n\r\n",
                "1 \r\nx\r\n",
                "1;\r\nx\r\n",
                "1;=b\r\nx\r\n",
                "1;a=\r\nx\r\n",
                "1;a b\r\nx\r\n",
                "1;a=\"\n\"\r\nx\r\n",
                "1;a=\"b\r\nx\r\n",
                "1;a=\"b\"c\r\nx\r\n",
                "1;a\n\r\nx\r\n",
                "1\u{a0}\r\nx\r\n",
                "1\u{b}\r\nx\r\n",
                "0x1\r\nx\r\n",
                "+1\r\nx\r\n",
                " 1\r\nx\r\n",
                "1_0\r\n",
                "1;a \r\nx\r\n",
                "1\r\nx\n",
                "1\r\nx\r\r\n",
            ])
        {
            assert!(decode(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(decode(&[format!("1;{}", "x".repeat(5000)).as_bytes()]).is_err());
        for line in ["1", "01", "1;a", "1 ; a = b", "1\t;a=\"\\\"; \u{e9}\";c", "1;a;b=c ;d", "A;x"] {
            let size = if line.starts_with('A') { "0123456789" } else { "0" };
            let text = format!("{line}\r\n{size}\r\n0\r\n\r\n");
            assert!(decode(&[text.as_bytes()]).unwrap().is_some(), "{line}");
        }
        assert_eq!(decode(&[b"0\r\nA: b\r\n\r\nrest"]).unwrap(), Some((vec![], 11)));
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
