//! The client-facing edge: HTTP in, the two eras told apart, stories run, answers written.
//!
//! Owns the data listener's requests from their first byte to their last. Reading order: `http` (entry and era), then
//! `handshake` over `initialize` and `in_session`, `stateless` (the two adapters), `exchange` (when an answer becomes a
//! stream), `pump` and `body` (the stream's two ends), `respond` (wire forms).
//! Always: a status is committed only when the first event or the answer is known (S-HTTPS-06); actix-web's types stay
//! here and in `admin`. Not here: what calls do.

mod batch;
mod body;
pub mod edge;
mod events;
mod exchange;
pub mod guard;
mod handshake;
mod http;
mod in_session;
mod initialize;
mod pipe;
mod pump;
mod respond;
mod sse_transport;
mod stateless;

pub use edge::Edge;
pub use http::routes;
