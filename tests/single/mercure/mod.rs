//! Mercure's protocol. Each test is named after what it prevents.

mod delivery;
mod forms;
mod resume;
mod rights;
mod selectors;

use crate::support;
