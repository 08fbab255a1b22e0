//! Bytes of the tables: keys, and the frame around each value.
//!
//! Always: bytewise order of keys is their order within a space and an owner; a frame verifies only below the key it was
//! written for. Not here: tables and transactions (`tables`).

use bytes::Bytes;

use crate::store::records::{Kept, Space};

/// Format of the frame; also its first byte.
const FRAME: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 1..5;
/// Format, checksum, version, end, length of the owner.
const HEAD: usize = 1 + 4 + 8 + 8 + 2;
const NEVER: u64 = u64::MAX;
const NOBODY: u16 = u16::MAX;

/// Key of a record: `length of the space, space, key`.
pub(super) fn record_key(space: Space, key: &[u8]) -> Vec<u8> {
    let word = space.text().as_bytes();
    // `Space::new` lets no longer word pass.
    let length = u8::try_from(word.len()).unwrap_or(u8::MAX);
    [&[length], word, key].concat()
}

/// What all keys of an owner's entries begin with: `space, length of the owner, owner`.
pub(super) fn owner_prefix(space: Space, owner: &str) -> Vec<u8> {
    // Owners are at most `KEY_LIMIT` long.
    let length = u16::try_from(owner.len()).unwrap_or(u16::MAX);
    [&record_key(space, &[])[..], &length.to_be_bytes(), owner.as_bytes()].concat()
}

/// Key of an entry below the ends of records: `end, key of the record`.
pub(super) fn end_key(end: u64, record: &[u8]) -> Vec<u8> {
    [&end.to_be_bytes()[..], record].concat()
}

/// The parts of an [`end_key`].
pub(super) fn split_end_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (end, record) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*end), record))
}

/// The word of a space and the key in it.
pub(super) fn split_record_key(record: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = record.split_first()?;
    let (word, key) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(word).ok()?, key))
}

/// The key of the owner's entry of a record, given the record's own key.
pub(super) fn owner_key(record: &[u8], owner: &str) -> Option<Vec<u8>> {
    let (word, key) = split_record_key(record)?;
    let length = u16::try_from(owner.len()).ok()?;
    Some([&record[..=word.len()], &length.to_be_bytes(), owner.as_bytes(), key].concat())
}

/// The smallest bytes larger than everything that begins so; what begins so never ends in 255 throughout.
pub(super) fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

/// `format, checksum, version, end, length of the owner, owner, value`; the checksum is over the record's key and all
/// that stands behind it.
pub(super) fn frame(record: &[u8], kept: &Kept) -> Vec<u8> {
    let owner = kept.owner.as_deref();
    let length = owner.map_or(NOBODY, |owner| u16::try_from(owner.len()).unwrap_or(NOBODY));
    let mut frame = Vec::with_capacity(HEAD + owner.map_or(0, str::len) + kept.value.len());
    frame.push(FRAME);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&kept.version.to_be_bytes());
    frame.extend_from_slice(&kept.expires.unwrap_or(NEVER).to_be_bytes());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(owner.unwrap_or_default().as_bytes());
    frame.extend_from_slice(&kept.value);
    let checksum = checksum(record, &frame[CHECKSUM.end..]);
    frame[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// What a frame holds, if it was written whole and for this key.
pub(super) fn unframe(record: &[u8], frame: &[u8]) -> Option<Kept> {
    let found = u32::from_be_bytes(frame.get(CHECKSUM)?.try_into().ok()?);
    if frame[0] != FRAME || found != checksum(record, &frame[CHECKSUM.end..]) {
        return None;
    }
    let (version, rest) = frame[CHECKSUM.end..].split_first_chunk()?;
    let (end, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (end, length) = (u64::from_be_bytes(*end), u16::from_be_bytes(*length));
    let (owner, value) = if length == NOBODY {
        (None, rest)
    } else {
        let (owner, value) = rest.split_at_checked(usize::from(length))?;
        (Some(std::str::from_utf8(owner).ok()?.to_owned()), value)
    };
    Some(Kept {
        version: u64::from_be_bytes(*version),
        value: Bytes::copy_from_slice(value),
        owner,
        expires: (end != NEVER).then_some(end),
    })
}

fn checksum(record: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(record.len() as u64).to_be_bytes());
    hasher.update(record);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space::new("s");

    #[test]
    fn f50_no_flipped_bit_and_no_other_key_verifies() {
        let kept = Kept {
            version: 7,
            value: Bytes::from_static(b"value"),
            owner: Some("me".to_owned()),
            expires: Some(9),
        };
        let record = record_key(SPACE, b"key");
        let good = frame(&record, &kept);
        assert_eq!(unframe(&record, &good), Some(kept));
        assert_eq!(unframe(&record_key(SPACE, b"kex"), &good), None);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unframe(&record, &bad), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(unframe(&record, &good[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn keys_come_apart_as_they_were_put_together() {
        let record = record_key(SPACE, b"key");
        assert_eq!(split_record_key(&record), Some(("s", &b"key"[..])));
        let owner = [owner_prefix(SPACE, "me"), b"key".to_vec()].concat();
        assert_eq!(owner_key(&record, "me"), Some(owner));
        assert_eq!(split_end_key(&end_key(5, &record)), Some((5, &record[..])));
        assert_eq!(after_all(&[1, 2, 255]), [1, 3]);
    }
}
