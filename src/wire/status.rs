//! Status codes (RFC 9110 section 15): those that a node may answer with, each with its phrase, so that none goes out without one.

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        /// What became of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Status {
            $(#[doc = concat!($code, " ", $reason)] $name = $code,)*
        }

        impl Status {
            /// Its reason phrase.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Status::$name => $reason,)*
                }
            }

            /// That of another node's answer, or of one that was stored; none for a code that no node gives.
            pub const fn of(code: u16) -> Option<Status> {
                match code {
                    $($code => Some(Status::$name),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    Ok = 200 "OK";
    Created = 201 "Created";
    Accepted = 202 "Accepted";
    NoContent = 204 "No Content";
    NotModified = 304 "Not Modified";
    BadRequest = 400 "Bad Request";
    Unauthorized = 401 "Unauthorized";
    Forbidden = 403 "Forbidden";
    NotFound = 404 "Not Found";
    MethodNotAllowed = 405 "Method Not Allowed";
    RequestTimeout = 408 "Request Timeout";
    PreconditionFailed = 412 "Precondition Failed";
    ContentTooLarge = 413 "Content Too Large";
    UnsupportedMediaType = 415 "Unsupported Media Type";
    ExpectationFailed = 417 "Expectation Failed";
    MisdirectedRequest = 421 "Misdirected Request";
    UnprocessableContent = 422 "Unprocessable Content";
    TooManyRequests = 429 "Too Many Requests";
    RequestHeaderFieldsTooLarge = 431 "Request Header Fields Too Large";
    NotImplemented = 501 "Not Implemented";
    ServiceUnavailable = 503 "Service Unavailable";
    HttpVersionNotSupported = 505 "HTTP Version Not Supported";
}

impl Status {
    /// Its number.
    pub const fn code(self) -> u16 {
        self as u16
    }
}
