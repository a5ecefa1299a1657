//! Requests that their senders name by an `Idempotency-Key`, so that they may repeat them
//! (draft-ietf-httpapi-idempotency-key-header).

use crate::db::Command;
use crate::db::once::{Asker, Once};
use crate::ground::Ground;
use crate::limits::ONCE_KEY_BYTES_MAX;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::status::Status;

/// The key, with or without the quotation marks of a structured field's string (RFC 9651, section 3.3.3).
pub(crate) fn key<'a>(request: &Request<'a>) -> Result<Option<&'a str>, HttpError> {
    let Some(given) = request.idempotency_key else { return Ok(None) };
    let key = given.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(given);
    let fits = |byte: u8| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    if key.is_empty() || key.len() > ONCE_KEY_BYTES_MAX || !key.bytes().all(fits) {
        return Err(HttpError::bad(format!(
            "an Idempotency-Key has 1 to {ONCE_KEY_BYTES_MAX} visible ASCII characters, perhaps in quotation marks; a UUID is good"
        )));
    }
    Ok(Some(key))
}

/// What a client is told whose key named another request.
pub(crate) fn other_body() -> HttpError {
    HttpError::new(
        Status::UnprocessableContent,
        "a request with this Idempotency-Key and another body was taken within the last day; give a new key",
    )
}

impl Ground {
    /// The command of a request of `member` to a resource: done once if the request has a key.
    ///
    /// # Errors
    /// 400 for a key that is none.
    pub(crate) fn once(
        &self,
        request: &Request<'_>,
        member: &str,
        resource: [&str; 2],
        body: &[u8],
        command: Command,
    ) -> Result<Command, HttpError> {
        let Some(key) = key(request)? else { return Ok(command) };
        let once = Once::new(Asker::Member(member), resource, key, body, self.clock.unix_ms);
        Ok(Command::Once { once, command: Box::new(command) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    fn key_of(value: &str) -> Result<Option<String>, u16> {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {value}\r\nContent-Length: 0\r\n\r\n");
        let request = request::parse(head.as_bytes()).map_err(|error| error.status.code())?;
        key(&request).map(|key| key.map(str::to_owned)).map_err(|error| error.status.code())
    }

    #[test]
    fn keys_are_visible_and_bounded() {
        for (value, expected) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ] {
            assert_eq!(key_of(value), Ok(Some(expected.to_owned())));
        }
        assert_eq!(key_of(&"x".repeat(ONCE_KEY_BYTES_MAX)).map(|key| key.is_some()), Ok(true));
        for bad in [
            "",
            "\"\"",
            "a b",
            "\"a",
            "a\"",
            "a\\b",
            "é",
            &"x".repeat(ONCE_KEY_BYTES_MAX + 1),
            "a\r\nIdempotency-Key: b",
        ] {
            assert_eq!(key_of(bad), Err(400), "{bad}");
        }
    }
}
