//! Identifiers as types, so that one kind cannot stand in for another.

use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Key of a server in the configuration: `[A-Za-z0-9_-]{1,32}`.
    UpstreamName
);
text_id!(
    /// Key of a profile: `[A-Za-z0-9_-]{1,32}`.
    ProfileName
);
text_id!(
    /// A tool or prompt name as clients see it: `[A-Za-z0-9_-]{1,64}`, or an original name where `prefix` is `""`.
    PublicName
);
text_id!(
    /// A tool or prompt name as its own server calls it.
    LocalName
);

/// Id of a handshake-era client session: 128 random bits that only the table of sessions gives a meaning (S-SESS-01).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u128);

impl fmt::Debug for SessionId {
    /// Logs name a session by the first digits of its id, which nobody can use as the id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session-{:08x}", (self.0 >> 96) as u32)
    }
}
