//! Text for the human who decides: display-safe, complete, and made from the plan alone.
//!
//! The crate is pure: it reads no file, clock or terminal. What it cannot know from a plan (the
//! requester's account name, for example) is handed in as [`Facts`] by the process that shows the
//! text.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod display;
pub mod quote;
mod render;

pub use render::{Facts, REVIEW_BYTES_MAX, Review, render};
