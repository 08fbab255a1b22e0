//! What a client and its servers see of the gateway, told as stories.
//!
//! Owns the black-box tests: every story runs the real binary between clients and upstreams written from the
//! specification. Always: a story is named after the requirement or fault row it proves and ends by itself. Not here:
//! anything of the gateway's code.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod abandoned_sessions;
mod absent_clients;
mod asking;
mod attribution;
mod bad_configuration;
mod bad_input;
mod base;
mod batch_items;
mod batches;
mod beyond_bounds;
mod bridge;
mod broken_answers;
mod caching;
mod cancel_races;
mod commands;
mod compressed;
mod content;
mod corrupt_answers;
mod cut_streams;
mod disconnects;
mod elicitation;
mod elicitation_urls;
mod era_detection;
mod error_codes;
mod event_ids;
mod extensions;
mod faults;
mod faulty_children;
mod fidelity;
mod first_session;
mod guards;
mod healing;
mod http_client;
mod http_server;
mod idle_children;
mod input_required;
mod late_servers;
mod legacy_sse;
mod lifecycle;
mod list_changes;
mod listener;
mod lists;
mod log_messages;
mod logging;
mod metadata;
mod mirrored_headers;
mod openings;
mod own_server;
mod pairings;
mod panics;
mod parked;
mod parked_crowd;
mod parked_ends;
mod parked_pages;
mod parked_peers;
mod pings;
mod pipes_sse;
mod pipes_stdio;
mod profiles;
mod progress_and_cancellation;
mod prompts;
mod questions;
mod questions_crossing;
mod questions_under_way;
mod refused_requests;
mod relay;
mod repeated_parameters;
mod replay_bounds;
mod resource_uris;
mod resources;
mod resumption;
mod revisions;
mod roots;
mod rounds;
mod sampling;
mod server_requests;
mod sessions;
mod sharing;
mod slow_readers;
mod slow_requests;

mod standing_streams;
mod stateless;
mod stdio_client;
mod stdio_server;
mod storms;
mod subscriptions;
mod telemetry;
mod the_tools_of_these_stories;
mod tools;
mod trust;
mod unread;
mod unreadable;
mod untrusted;
mod upstream_http;
mod upstream_resumption;
mod upstream_sse;
mod url_required;
