//! How the gateway knows itself when it meets itself as a server, also through a proxy.
//!
//! Always: a mark means something to the gateway that made it alone, and two marks of one gateway look unrelated, so that
//! servers cannot tell from it whom they serve together. Not here: what a file shows already (`config`).

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// Where the mark stands in `_meta` of the requests by which the gateway greets servers.
pub const MARK_KEY: &str = "switchyard/gateway";

const SALT: usize = 16;

/// Known to this process alone; there is one gateway in it. `None` if the system has no randomness, and then there are no
/// marks.
static KEY: LazyLock<Option<[u8; 32]>> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok().map(|()| key)
});

/// A new mark: letters and digits.
pub(super) fn mark() -> Option<String> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).ok()?;
    let salt = hex(&salt);
    Some(format!("{salt}{}", proof(&salt)?))
}

/// Whether this gateway made the mark.
pub fn is_own(mark: &str) -> bool {
    let Some((salt, shown)) = mark.split_at_checked(2 * SALT) else { return false };
    // Nothing is won by guessing it, so the time that a comparison takes may tell.
    proof(salt).is_some_and(|proof| proof == shown)
}

fn proof(salt: &str) -> Option<String> {
    let key = KEY.as_ref()?;
    Some(hex(&Sha256::new().chain_update(key).chain_update(salt).finalize()[..SALT]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_by_its_maker_and_says_nothing_else() {
        let (one, other) = (mark().expect("randomness"), mark().expect("randomness"));
        assert!(is_own(&one) && is_own(&other) && one != other);
        for foreign in ["", "x", &one[1..], &format!("{}{}", &one[..32], &other[32..])] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
