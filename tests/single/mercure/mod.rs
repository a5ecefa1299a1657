//! Mercure's protocol. Each test is named after what it prevents.

mod delivery;
mod forms;
mod resume;
mod rights;

use crate::support;
