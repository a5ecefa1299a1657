//! Names that are stored.

use crate::limits::NAME_BYTES_MAX;
use crate::wire::http::HttpError;

/// Names that are stored: not empty, bounded, and free of control characters.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), HttpError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let detail = format!("the {what}'s name must have 1 to {NAME_BYTES_MAX} bytes and no control characters");
        return Err(HttpError::bad(detail));
    }
    Ok(())
}
