//! What is the same for every back end: when a record is there, what fits, how a page of a list comes about.

use super::error::StoreError;
use super::records::{Expect, KEY_LIMIT, Kept, Page, VALUE_LIMIT, Write};

/// What an entry of a list turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    Here(Kept),
    /// Expired, or an entry of an index whose record is another's now.
    Gone,
    Damaged,
}

/// Entries without a record that one page may pass: what bounds the work of a page when much has expired at once.
const PASSED: usize = 1_000;

/// Takes a page from entries in order. Lazy: looks at no more entries than it needs.
pub(super) fn page<E>(
    limit: usize,
    entries: impl Iterator<Item = Result<(Vec<u8>, Found), E>>,
) -> Result<Page, E> {
    let limit = limit.max(1);
    let mut page = Page::default();
    let mut passed = 0;
    let mut last = None;
    for entry in entries {
        let (key, found) = entry?;
        if page.items.len() == limit || passed == PASSED {
            page.next = last;
            break;
        }
        last = Some(key.clone());
        match found {
            Found::Here(kept) => page.items.push((key, kept)),
            Found::Gone => passed += 1,
            Found::Damaged => {
                passed += 1;
                page.damaged.push(key);
            }
        }
    }
    Ok(page)
}

/// Whether a record is there.
pub(super) fn is_there(kept: &Kept, now_ms: u64) -> bool {
    kept.expires.is_none_or(|end| now_ms < end)
}

/// Whether what is there is what was expected.
pub(super) fn is_expected(expect: Expect, there: Option<&Kept>) -> bool {
    match (expect, there) {
        (Expect::Any, _) | (Expect::Absent, None) => true,
        (Expect::Version(version), Some(kept)) => kept.version == version,
        (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
    }
}

/// Refuses what no back end has to keep.
pub(super) fn check_lengths(writes: &[Write]) -> Result<(), StoreError> {
    let fits = writes.iter().all(|write| match write {
        Write::Delete { key, .. } => key.len() <= KEY_LIMIT,
        Write::Put { key, value, owner, .. } => {
            key.len() <= KEY_LIMIT
                && value.len() <= VALUE_LIMIT
                && owner.as_ref().is_none_or(|owner| owner.len() <= KEY_LIMIT)
        }
    });
    if fits { Ok(()) } else { Err(StoreError::TooLong) }
}
