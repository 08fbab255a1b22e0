//! Who calls us. This release knows one caller, the local user; identity providers come with `auth.inbound`.

pub mod principal;
