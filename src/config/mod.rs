//! What an operator may say, and the checked form of it that the rest of the program reads.

mod model;
mod secret;

pub use model::*;
pub use secret::Secret;
