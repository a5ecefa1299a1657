//! Who may do what, with `--auth jwt`, on every endpoint. Each test is named after what it prevents.

mod endings;
mod endpoints;
mod issuers;
mod pace;
mod speaking;
mod topics;
