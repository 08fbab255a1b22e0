//! The client-facing edge.

pub mod guard;
