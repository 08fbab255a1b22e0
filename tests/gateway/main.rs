//! What a client and its servers see of the gateway, told as stories.
//!
//! Owns the black-box tests: every story runs the real binary between clients and upstreams written from the
//! specification. Always: a story is named after the requirement or fault row it proves and ends by itself. Not here:
//! anything of the gateway's code.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod bad_configuration;
mod bad_input;
mod base;
mod batches;
mod commands;
mod corrupt_answers;
mod disconnects;
mod era_detection;
mod faults;
mod faulty_children;
mod fidelity;
mod first_session;
mod guards;
mod http_client;
mod http_server;
mod lifecycle;
mod listener;
mod lists;
mod logging;
mod metadata;
mod mirrored_headers;
mod panics;
mod pings;
mod pipes_sse;
mod pipes_stdio;
mod profiles;
mod progress_and_cancellation;
mod prompts;
mod relay;
mod resources;
mod revisions;
mod server_requests;
mod sessions;
mod stateless;
mod stdio_client;
mod telemetry;
mod the_tools_of_these_stories;
mod tools;
mod trust;
mod upstream_http;
mod upstream_resumption;
mod upstream_sse;
