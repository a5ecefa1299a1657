//! Who may do what: tokens (JSON Web Tokens, RFC 7519), the keys that check them, and the rights they carry.
//!
//! | module | what happens there |
//! |---|---|
//! | [`credentials`] | where a request carries its token: `Authorization`, a cookie or the query |
//! | [`keys`], [`jwks`] | a secret, PEM or JWKS file becomes keys, each for one algorithm |
//! | [`fetch`] | keys that an issuer serves at a URL |
//! | [`watch`] | the file is read again when it changes, and shards see the new keys |
//! | [`token`] | a token is checked, and its claims become rights |
//! | `signing` | signatures, and the forms of keys |
//! | [`rights`] | who it is, and which topics they may subscribe to and publish to |
//! | [`revoked`] | tokens that count no more although they have not run out |
//! | [`error`] | what the client is told: 400, 401 or 403, and what is missing |
//! | [`mint`] | `fanfare token`: a token for testing |
//!
//! A shard answers a request in this order:
//!
//! ```no_run
//! use fanfare::auth::{self, TokenError, Watcher};
//! # fn answer(origin_is_allowed: bool, now_ms: u64, topic: &fanfare::wire::topic::Topic) -> Result<(), TokenError> {
//! let watcher = Watcher::start("keys.json".as_ref()).expect("a readable key file");
//! let keys = watcher.keys(); // one clone a shard
//! let credential = auth::credentials(Some("Bearer …"), Some(("session", "theme=dark")), None)?;
//! let credential = credential.ok_or(TokenError::Missing)?;
//! if credential.needs_origin() && !origin_is_allowed {
//!     return Err(TokenError::Origin);
//! }
//! let rights = credential.token.verify(&keys.load(), now_ms)?;
//! rights.require_subscribe(topic)?;
//! # Ok(())
//! # }
//! ```

#[expect(clippy::disallowed_methods, reason = "files that are read before a node starts, and on a thread of their own")]
pub mod certificates;
pub mod credentials;
pub mod error;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod fetch;
pub mod jwks;
#[expect(
    clippy::disallowed_types,
    reason = "the file of keys is read before a node starts, and on the thread of `watch`"
)]
pub mod keys;
#[expect(clippy::disallowed_methods, reason = "a command of its own")]
pub mod mint;
pub mod revoked;
pub mod rights;
mod signing;
pub mod token;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod watch;

pub use credentials::{Credential, Source, credentials};
pub use error::{Right, TokenError};
pub use fetch::{Fetcher, Refetch};
pub use keys::{Algorithm, KeyError, Keys, READABLE};
pub use revoked::{Revocation, Revocations};
pub use rights::{Patterns, Rights, TokenId, Types, expired};
pub use token::{Terms, Token};
pub use watch::{SharedKeys, Watcher};

use std::time::Duration;

/// Longest token. It must fit a request's head with 100 topics beside it, and bounds what parsing and checking cost:
/// nothing of a longer one is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How far the clocks of the issuer and of this node may be apart: `exp` and `nbf` are stretched by this much.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Shortest secret for HS256 (RFC 7518 section 3.2 asks for the size of the hash): a shorter one can be found by
/// trying, from a single token.
pub const SECRET_BYTES_MIN: usize = 32;

/// Shortest RSA modulus (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2048;
/// Longest RSA modulus: what the library checks, and a bound on what a bad token costs.
pub const RSA_BITS_MAX: usize = 4096;

/// Largest key file: a hundred RSA keys fit.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most keys in a file.
pub const KEYS_MAX: usize = 100;
/// Most keys without a name (`kid`) in a file: any of them may have signed a token, so each is tried.
pub const KEYS_UNNAMED_MAX: usize = 4;

/// How often the key file is looked at.
pub const KEY_FILE_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(TOKEN_BYTES_MAX * 2 <= crate::limits::HEAD_BYTES_MAX);
/// Most keys that are tried for one token that names none: a bad one costs some milliseconds.
pub const KEYS_TRIED_MAX: usize = 16;
const _: () = assert!(KEYS_UNNAMED_MAX <= KEYS_TRIED_MAX && KEYS_TRIED_MAX < KEYS_MAX);
