//! The client-facing edge: messages in, the two eras told apart, stories run, answers written.
//!
//! Owns clients' requests from their first byte to their last, on the data listener and on standard input. Reading order:
//! `edge` (what everything here works with) and `guard` (whom it listens to), `http` (entry and era), then the two adapters:
//! `handshake` over `initialize`, `in_session`, `url_required` (pages before an answer) and `batch` (many messages as one),
//! `restored` (sessions from before a restart), and `stateless`; `tasks` is of both. Then a request's way back: `exchange` (when an answer becomes a stream), `events` and `telling` (what
//! one call tells before it, and several), `pump` and `body` (the stream's two ends), `respond` (wire forms), `large_body` (in pieces). Last `pipe` (a client whose everything is
//! on one stream) under `sse_transport` and `stdio` (how that stream travels).
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
mod input_required;
mod large_body;
mod listen;
mod parking;
mod pipe;
mod pump;
mod request_body;
mod respond;
mod restored;
mod sse_transport;
mod stateless;
pub mod stdio;
mod tasks;
mod telling;
mod url_required;

pub use edge::Edge;
pub use http::routes;
pub use restored::restore_sessions;
