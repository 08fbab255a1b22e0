//! Catalogue.
pub mod namespace;
