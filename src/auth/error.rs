//! What a client is told whose token is missing, bad or not enough.

use super::{LEEWAY, TOKEN_BYTES_MAX};
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use crate::wire::topic::Topic;
use std::fmt;
use std::time::Duration;

/// What a token may allow on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To get its events.
    Subscribe,
    /// To send events to it.
    Publish,
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Right::Subscribe => "fanfare.subscribe",
            Right::Publish => "fanfare.publish",
        })
    }
}

/// Why a request may not do what it asks. The text is for the client; it holds nothing of the token, and only
/// characters that `error_description` may have (RFC 6750 section 3: no quotation mark, no backslash).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token. 401.
    #[error("this needs a token: send it as Authorization: Bearer, as access_token in the query, or in the cookie")]
    Missing,
    /// More than one token, so that it is not clear who asks. 400.
    #[error("the request carries more than one token: send one, in one place")]
    Several,
    /// An `Authorization` that is no bearer token. 401.
    #[error("Authorization is not Bearer followed by one token")]
    NotBearer,
    /// Longer than [`TOKEN_BYTES_MAX`]. 401.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    Oversized,
    /// Not a signed JSON Web Token, or one that asks for what is not understood. 401.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Signed by an algorithm that no key here is for, or not signed at all. 401.
    #[error("the token's algorithm (alg) is not one that the keys here are for: {0}")]
    WrongAlgorithm(Box<str>),
    /// Signed by a key that is not here. 401.
    #[error("the token does not name (kid) a key that is known here")]
    UnknownKey,
    /// Changed after signing, or signed by another key. 401.
    #[error("the token's signature does not fit the key")]
    BadSignature,
    /// Past its `exp`. 401.
    #[error("the token expired {0} s ago")]
    Expired(u64),
    /// Before its `nbf`. 401.
    #[error("the token is not valid yet, for another {0} s (more than {leeway} s)", leeway = LEEWAY.as_secs())]
    NotYetValid(u64),
    /// Its member, or it alone, was revoked. 401.
    #[error("the token was revoked: its member (sub) up to when it was issued (iat), or it alone (jti)")]
    Revoked,
    /// It lives for longer than tokens may here. 401.
    #[error("the token lives for too long: exp is more than {} from iat, or from now (--jwt-max-life)", humantime::format_duration(*.0))]
    Life(Duration),
    /// A claim that will not do. 401.
    #[error("a claim of the token will not do: {0}")]
    Claim(&'static str),
    /// The token lacks a right. 403.
    #[error("the token lacks the right {right} on {topic}")]
    Forbidden {
        /// What it lacks.
        right: Right,
        /// Where.
        topic: Topic,
    },
    /// The token does not name a type that belongs to others. 403.
    #[error(
        "the token lacks the type {0} (fanfare.types): such events come from the requests that store or check them"
    )]
    Type(&'static str),
    /// The request speaks for a member other than the token's. 403.
    #[error("the member of the request is not the one that the token names (sub)")]
    OtherMember,
    /// The request speaks for a member, and the token names none. 403.
    #[error("the token names no member (sub), so it cannot speak for one")]
    NoMember,
    /// The token names another member than the open stream's. 403.
    #[error("the token names another member (sub) than the one that the stream was opened for")]
    OtherSubject,
    /// The token came in a cookie, and the page that sent it is not of an allowed origin. 403.
    #[error("a token in a cookie counts only from a page of an allowed origin (Origin)")]
    Origin,
}

impl TokenError {
    /// The status of the answer: 400, 401 or 403.
    pub fn status(&self) -> Status {
        match self {
            TokenError::Several => Status::BadRequest,
            TokenError::Forbidden { .. }
            | TokenError::Type(_)
            | TokenError::OtherMember
            | TokenError::NoMember
            | TokenError::OtherSubject
            | TokenError::Origin => Status::Forbidden,
            _ => Status::Unauthorized,
        }
    }

    /// The `detail` of the problem document: what is wrong or missing, and nothing of the token.
    pub fn detail(&self) -> String {
        self.to_string()
    }

    /// The value of `WWW-Authenticate` (RFC 6750 section 3). A request without a token gets no error code, as the
    /// RFC asks.
    pub fn www_authenticate(&self) -> String {
        let code = match self {
            TokenError::Missing => return "Bearer realm=\"fanfare\"".to_owned(),
            TokenError::Several => "invalid_request",
            _ if self.status() == Status::Forbidden => "insufficient_scope",
            _ => "invalid_token",
        };
        format!("Bearer realm=\"fanfare\", error=\"{code}\", error_description=\"{self}\"")
    }
}

impl From<TokenError> for HttpError {
    fn from(error: TokenError) -> HttpError {
        HttpError {
            www_authenticate: Some(error.www_authenticate().into()),
            ..HttpError::new(error.status(), error.detail())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_status_and_a_header_that_parses() {
        let topic = Topic::parse("live:4%22").unwrap();
        let cases = [
            (TokenError::Missing, 401, None),
            (TokenError::Several, 400, Some("invalid_request")),
            (TokenError::NotBearer, 401, Some("invalid_token")),
            (TokenError::Oversized, 401, Some("invalid_token")),
            (TokenError::Malformed("x"), 401, Some("invalid_token")),
            (TokenError::WrongAlgorithm("RS256".into()), 401, Some("invalid_token")),
            (TokenError::UnknownKey, 401, Some("invalid_token")),
            (TokenError::BadSignature, 401, Some("invalid_token")),
            (TokenError::Expired(7), 401, Some("invalid_token")),
            (TokenError::NotYetValid(7), 401, Some("invalid_token")),
            (TokenError::Revoked, 401, Some("invalid_token")),
            (TokenError::Life(Duration::from_secs(3600)), 401, Some("invalid_token")),
            (TokenError::Claim("x"), 401, Some("invalid_token")),
            (TokenError::Forbidden { right: Right::Publish, topic }, 403, Some("insufficient_scope")),
            (TokenError::Type("like"), 403, Some("insufficient_scope")),
            (TokenError::OtherMember, 403, Some("insufficient_scope")),
            (TokenError::NoMember, 403, Some("insufficient_scope")),
            (TokenError::OtherSubject, 403, Some("insufficient_scope")),
            (TokenError::Origin, 403, Some("insufficient_scope")),
        ];
        for (error, status, code) in cases {
            assert_eq!(error.status().code(), status, "{error}");
            let detail = error.detail();
            assert!(detail.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte)), "{detail}");
            let expected = match code {
                None => "Bearer realm=\"fanfare\"".to_owned(),
                Some(code) => format!("Bearer realm=\"fanfare\", error=\"{code}\", error_description=\"{detail}\""),
            };
            assert_eq!(error.www_authenticate(), expected);
        }
    }

    #[test]
    fn a_missing_right_is_named_with_its_topic() {
        let error = TokenError::Forbidden { right: Right::Subscribe, topic: Topic::parse("live:42").unwrap() };
        assert_eq!(error.detail(), "the token lacks the right fanfare.subscribe on live:42");
    }
}
