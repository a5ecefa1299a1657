//! Settings of the built program, as an operator meets them.

mod layers;
mod listed;
mod place;
mod refused;
