//! What a store does.
