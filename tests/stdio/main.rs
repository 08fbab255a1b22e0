//! Stdio upstreams that cannot hurt: real processes, each evil in one way (reliability rows F14 to F24).

mod faults;
mod flow;
mod limits;
mod support;
mod surroundings;
mod tree;
