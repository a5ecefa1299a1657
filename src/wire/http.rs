//! The words of HTTP/1.1 (RFC 9110, RFC 9112) that every role shares: methods, errors, bodies, percent-encoding.

use super::status::Status;
use std::borrow::Cow;

/// A request's method. Only those that some resource answers have a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// Any other token.
    Other,
}

impl Method {
    /// Its token; none of those that have no name here.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Other => "",
        }
    }

    /// From the request line.
    pub fn from_token(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
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
    pub status: Status,
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
    pub fn new(status: Status, detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError { status, detail: detail.into(), allow: None, www_authenticate: None, retry_after: None }
    }

    /// 400.
    pub fn bad(detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError::new(Status::BadRequest, detail)
    }

    /// 404 for a path that is not here.
    pub fn not_found() -> HttpError {
        HttpError::new(Status::NotFound, "there is nothing at this path; docs/http.md lists what this node serves")
    }

    /// 405 with what is allowed.
    pub fn method(allow: String) -> HttpError {
        let detail = format!("this path takes {allow}");
        HttpError { allow: Some(allow), ..HttpError::new(Status::MethodNotAllowed, detail) }
    }

    /// 503 that is worth retrying.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> HttpError {
        HttpError::new(Status::ServiceUnavailable, detail)
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

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2), such as a header's name.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Whether a byte may stand in a header's value (RFC 9110 section 5.5).
pub const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A header's value, or an element of one, without the white space around it. Only space and tab are white space there
/// (RFC 9110 section 5.6.3): what `str::trim` takes besides would be a part of the value to other readers.
pub fn trim(text: &str) -> &str {
    match text.as_bytes() {
        // As almost all are.
        [b'!'..=u8::MAX, .., b'!'..=u8::MAX] => text,
        _ => text.trim_matches([' ', '\t']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        assert_eq!(percent_decode("a%20b+c", false).unwrap(), "a b+c");
        assert_eq!(percent_decode("a%20b+c", true).unwrap(), "a b c");
        assert_eq!(percent_decode("%25%34%31", false).unwrap(), "%41");
        for text in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert!(percent_decode(text, false).is_err(), "{text}");
        }
    }
}
