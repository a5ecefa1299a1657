//! Where a request carries its token.

use super::error::TokenError;
use super::token::Token;
use crate::wire::http::trim;

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `Authorization: Bearer`.
    Authorization,
    /// The cookie that `--jwt-cookie` names.
    Cookie,
    /// `access_token` in the query, for an `EventSource`, which cannot set headers.
    Query,
}

/// A request's token, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Where it came from.
    pub source: Source,
}

impl Credential<'_> {
    /// Whether the request must have an allowed `Origin`: a browser adds cookies to the requests of any page.
    pub fn needs_origin(&self) -> bool {
        self.source == Source::Cookie
    }
}

/// The token of a request, if it carries one: from the value of `Authorization`, from the configured cookie (its
/// name, and the value of `Cookie`), or from `access_token` of the query, percent-decoded.
///
/// A cookie without a value, as a log-out leaves it, is no token.
///
/// # Errors
/// More than one token, be it the same twice (a cookie of that name set again for a narrower path or domain is how
/// a neighbouring site would pass off its own), an `Authorization` that is not `Bearer`, or an empty token.
pub fn credentials<'a>(
    authorization: Option<&'a str>,
    cookie: Option<(&str, &'a str)>,
    access_token: Option<&'a str>,
) -> Result<Option<Credential<'a>>, TokenError> {
    let mut found = None;
    let mut add = |text: &'a str, source| match found.replace(Credential { token: Token(text), source }) {
        Some(_) => Err(TokenError::Several),
        None => Ok(()),
    };
    if let Some(value) = authorization {
        add(bearer(value)?, Source::Authorization)?;
    }
    if let Some((name, header)) = cookie {
        for value in cookies(name, header) {
            add(value, Source::Cookie)?;
        }
    }
    if let Some(text) = access_token {
        if text.is_empty() {
            return Err(TokenError::Malformed("access_token is empty"));
        }
        add(text, Source::Query)?;
    }
    Ok(found)
}

/// What follows the scheme of `Bearer …` (RFC 9110 section 11.1: the scheme's case does not count).
pub fn after_bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = trim(value).split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim_start_matches(' '))
}

/// The token of `Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer(value: &str) -> Result<&str, TokenError> {
    // A comma would be a second value, joined by a proxy.
    after_bearer(value).filter(|token| !token.contains([' ', ',', '\t'])).ok_or(TokenError::NotBearer)
}

/// The values of the cookie `name` that are not empty (RFC 6265 section 4.2), without the quotes they may have.
fn cookies<'a>(name: &str, header: &'a str) -> impl Iterator<Item = &'a str> {
    header.split(';').filter_map(move |pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (key.trim_matches([' ', '\t']) == name && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(
        authorization: Option<&'a str>,
        cookie: Option<&'a str>,
        query: Option<&'a str>,
    ) -> Result<Option<(&'a str, Source)>, TokenError> {
        let credential = credentials(authorization, cookie.map(|header| ("sid", header)), query)?;
        Ok(credential.map(|credential| (credential.token.0, credential.source)))
    }

    #[test]
    fn a_token_is_found_wherever_it_is() {
        assert_eq!(found(None, None, None), Ok(None));
        assert_eq!(found(Some("Bearer a.b.c"), None, None), Ok(Some(("a.b.c", Source::Authorization))));
        assert_eq!(found(Some("bEARER   a.b.c"), None, None), Ok(Some(("a.b.c", Source::Authorization))));
        assert_eq!(found(None, None, Some("a.b.c")), Ok(Some(("a.b.c", Source::Query))));
        for header in ["sid=a.b.c", "x=1; sid=a.b.c; y=2", "sid=\"a.b.c\"", "xsid=1;sid=a.b.c", "SID=1; sid=a.b.c"] {
            assert_eq!(found(None, Some(header), None), Ok(Some(("a.b.c", Source::Cookie))), "{header}");
        }
        for header in ["", "x=1", "sid", "sid=", "sid=\"\"", "xsid=a.b.c", "x=sid=a.b.c"] {
            assert_eq!(found(None, Some(header), None), Ok(None), "{header}");
        }
    }

    #[test]
    fn two_tokens_are_one_too_many() {
        for (authorization, cookie, query) in [
            (Some("Bearer a"), Some("sid=b"), None),
            (Some("Bearer a"), None, Some("a")),
            (None, Some("sid=b"), Some("c")),
            (None, Some("sid=b; sid=c"), None),
            (Some("Bearer a"), Some("sid=b"), Some("c")),
        ] {
            assert_eq!(found(authorization, cookie, query), Err(TokenError::Several));
        }
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_none() {
        for value in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a, Bearer b", "a.b.c"] {
            assert_eq!(found(Some(value), None, None), Err(TokenError::NotBearer), "{value}");
        }
        assert!(matches!(found(None, None, Some("")), Err(TokenError::Malformed(_))));
    }

    #[test]
    fn only_a_cookie_needs_an_origin() {
        let needs =
            |authorization, cookie, query| credentials(authorization, cookie, query).unwrap().unwrap().needs_origin();
        assert!(needs(None, Some(("sid", "sid=a")), None));
        assert!(!needs(Some("Bearer a"), None, None) && !needs(None, None, Some("a")));
    }
}
