//! What outlives a request: for now the sealing of identifiers that clients hold for the gateway.
//!
//! Always: what is handed out is sealed, so unknown, foreign and altered values look the same. Not here yet: records,
//! streams and leases; their trait and its back ends come with the task registry, which is their first user.

pub mod seal;
