//! How long an answer is good and for whom: what servers say of their results, and what clients are told (S-CACHE).
//!
//! Always: what is not said clearly is private and not fresh. Not here: what is kept (`catalog`, `upstream::kept_reads`).

use std::time::Duration;

use super::json::{Object, string};

/// Who may be shown an answer that was made for somebody. Ordered: the later one prevails where answers are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody.
    Public,
    /// Nobody of another authorization context.
    Private,
}

impl Scope {
    /// As `cacheScope` has it.
    pub const fn text(self) -> &'static str {
        match self {
            Scope::Public => "public",
            Scope::Private => "private",
        }
    }

    /// The scope of an answer that others contributed to and that depends on its reader in this way (S-CACHE-02).
    pub fn narrowed(self, filtered_by_principal: bool, credential_per_user: bool) -> Scope {
        if filtered_by_principal || credential_per_user { Scope::Private } else { self }
    }
}

/// What a server of the stateless era says of one of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// `ttlMs`; negative counts as 0, and `None` means that nothing was said.
    pub ttl: Option<Duration>,
    /// `cacheScope`; private where nothing, or nothing known, was said.
    pub scope: Scope,
}

impl Hints {
    /// Nothing was said.
    pub const NONE: Hints = Hints { ttl: None, scope: Scope::Private };

    /// Reads them from a result.
    pub fn of(result: &Object) -> Hints {
        let scope = match result.get("cacheScope").and_then(string).as_deref() {
            Some("public") => Scope::Public,
            _ => Scope::Private,
        };
        Hints { ttl: result.get("ttlMs").and_then(milliseconds), scope }
    }
}

/// Any JSON number, as far as it can be a time.
fn milliseconds(raw: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(raw).ok()?;
    if let Ok(whole) = text.parse::<u64>() {
        return Some(Duration::from_millis(whole));
    }
    // Negative, beyond 64 bits, or with a fraction.
    let number = text.parse::<f64>().ok().filter(|_| !raw.starts_with(b"\""))?;
    Some(Duration::try_from_secs_f64(number.max(0.0).trunc() / 1000.0).unwrap_or(Duration::MAX))
}

/// What a stateless client is told of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// How long it may keep the result.
    pub ttl: Duration,
    /// For whom.
    pub scope: Scope,
}

impl Lifetime {
    /// Not to be kept.
    pub const NONE: Lifetime = Lifetime { ttl: Duration::ZERO, scope: Scope::Private };

    /// `ttlMs`.
    pub fn ttl_ms(self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// The two members, without a comma before or after.
    pub fn members(self) -> String {
        format!(r#""ttlMs":{},"cacheScope":"{}""#, self.ttl_ms(), self.scope.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Limits;

    fn hints(members: &str) -> Hints {
        let object = Object::parse(format!("{{{members}}}").into(), Limits::default()).expect("valid");
        Hints::of(&object)
    }

    #[test]
    fn s_cache_04_what_servers_say_of_time_is_read_with_care() {
        let rows = [
            ("", None),
            (r#""ttlMs":0"#, Some(0)),
            (r#""ttlMs":1500"#, Some(1500)),
            (r#""ttlMs":-1"#, Some(0)),
            (r#""ttlMs":-99999999999999999999"#, Some(0)),
            (r#""ttlMs":1.5e3"#, Some(1500)),
            (r#""ttlMs":12.9"#, Some(12)),
            (r#""ttlMs":"1500""#, None),
            (r#""ttlMs":null"#, None),
            (r#""ttlMs":true"#, None),
        ];
        for (members, expected) in rows {
            assert_eq!(hints(members).ttl, expected.map(Duration::from_millis), "{members}");
        }
        assert!(hints(r#""ttlMs":1e300"#).ttl.is_some_and(|ttl| ttl > Duration::from_secs(1 << 40)));
    }

    #[test]
    fn s_cache_03_only_what_says_so_is_public() {
        assert_eq!(hints(r#""cacheScope":"public""#).scope, Scope::Public);
        for other in ["", r#""cacheScope":"private""#, r#""cacheScope":"shared""#, r#""cacheScope":7"#] {
            assert_eq!(hints(other).scope, Scope::Private, "{other}");
        }
    }

    #[test]
    fn s_cache_02_what_depends_on_its_reader_is_private_whoever_said_public() {
        let rows =
            [(false, false, Scope::Public), (true, false, Scope::Private), (false, true, Scope::Private)];
        for (filtered, per_user, expected) in rows {
            assert_eq!(Scope::Public.narrowed(filtered, per_user), expected);
            assert_eq!(Scope::Private.narrowed(filtered, per_user), Scope::Private);
        }
    }
}
