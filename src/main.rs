//! The `fanfare` binary: parse, choose the role, run, exit code.
fn main() {}
