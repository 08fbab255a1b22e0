//! Switchyard: many MCP servers behind one endpoint, in every revision of the protocol.
//!
//! # The tour
//!
//! Read the modules in this order; each uses only what stands above it. `tests/layering.rs` holds the code to this table.
//!
//! | module | what it owns | may use, besides `names` and `protocol` |
//! |---|---|---|
//! | [`names`] | identifiers as types | |
//! | [`protocol`] | MCP as pure values: JSON as text, frames, splicing, revisions, translation | |
//! | [`config`] | `gateway.yaml` | |
//! | [`telemetry`] | logs, spans, trace context | config |
//! | [`store`] | what must be kept: records (in a file or in memory), sealed identifiers and their keys, logs of events | config |
//! | [`auth`] | who calls | config, telemetry, store |
//! | [`policy`] | may this caller do that; the only maker of permits | config, telemetry, store, auth |
//! | [`upstream`] | connections to MCP servers, in both eras | config, telemetry, auth, policy |
//! | [`catalog`] | public names, merged lists, their one writer | config, telemetry, store, policy, upstream |
//! | [`session`] | clients of the handshake era: sessions, their streams, what they are asked and told | config, auth, store, upstream (callers, their events, its messages) |
//! | [`listening`] | clients of the stateless era that listen: what each has to be told | config, auth, session (public names of resources), upstream (callers, its messages) |
//! | [`dispatch`] | the story of each method | config, telemetry, store, auth, policy, upstream, catalog |
//! | [`parked`] | calls that wait for answers of clients without a session | config, auth, upstream, dispatch |
//! | [`tasks`] | the registry of tasks: whose they are, how far, how they ended; what is kept of them | config, store, auth, upstream, dispatch, parked, session |
//! | [`downstream`] | the client-facing edge: HTTP and stdio, both eras | config, telemetry, auth, upstream, catalog, session, listening, dispatch, parked, tasks |
//! | [`admin`] | health and inspection | config, telemetry, upstream, catalog, session, dispatch, tasks, downstream |
//! | [`gateway`] | assembly: checked settings in, running gateway out | all above |
//! | [`commands`] | what the binary's verbs do | config, telemetry, store, upstream, gateway, demo |
//! | [`demo`] | a small MCP server of its own, which shares nothing with the gateway but revision names | |
//!
//! # The path of a tool call
//!
//! 1. `downstream` guards, reads the envelope once, finds the era.
//! 2. `session` admits it (handshake era); the stateless era has no session and skips this.
//! 3. `dispatch::call_tool`: both eras meet.
//! 4. `catalog` resolves the public name to a route.
//! 5. `policy` gives a permit.
//! 6. `upstream` takes the permit and makes the call.
//! 7. `downstream::respond` turns outcome or failure into the client's wire form.
//!
//! A call is one future from 2 to 6. **Dropping it cancels it**, upstream too: that is all there is to cancellation.
//!
//! # Words
//!
//! *Downstream*: towards clients. *Upstream*: towards MCP servers; also one such server. *Era*: handshake or stateless;
//! a *revision* belongs to one. *Session*: of a handshake-era client with the gateway. *Link*: an open connection to an
//! upstream. *Affinity*: whose link it is. *Question*: a request that a server makes of a client. *Catalogue*: everything
//! offered; a *view* is what one endpoint shows of it; a *route* leads from a public name to an upstream's own. *Permit*:
//! proof that policy allowed an operation. *Outcome*, *failure*: how a call ended, an upstream's answer or the lack of one.

pub mod admin;
pub mod auth;
pub mod catalog;
pub mod commands;
pub mod config;
pub mod demo;
pub mod dispatch;
pub mod downstream;
pub mod gateway;
pub mod listening;
pub mod names;
pub mod parked;
pub mod policy;
pub mod protocol;
pub mod session;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod upstream;
