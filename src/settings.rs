//! Settings as resolved.
