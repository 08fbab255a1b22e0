//! Stdio upstreams that cannot hurt: real processes, each evil in one way (reliability rows F14 to F24).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod faults;
mod flow;
mod limits;
mod support;
mod surroundings;
mod tree;
