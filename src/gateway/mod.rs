//! Assembly: checked settings in, running gateway out, and its orderly end.
//!
//! Reading order: `assembly` (what every gateway consists of), then `listeners` and `stdio` (who brings it requests).
//! Threads: one worker per core for clients, each with its own connections to upstreams; one for upstream actors, the
//! catalogue's writer and child processes, which must outlive everything it starts; one for the admin listener. On
//! standard input and output there is one client, served by the main thread, and a thread for each of the two.

mod announcer;
mod assembly;
mod drain;
mod listeners;
mod stdio;
mod tasks;

pub use assembly::fleet;
pub use listeners::{Addresses, serve};
pub use stdio::serve_stdio;
