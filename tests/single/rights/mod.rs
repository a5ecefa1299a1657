//! Who may do what, with `--auth jwt`, on every endpoint. Each test is named after what it prevents.

mod endpoints;
mod pace;
mod speaking;
mod topics;
