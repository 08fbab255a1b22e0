//! A store that is read and never changed: what the engine writes while it recovers stays in memory, above the file.
//!
//! For looking at a store (`store check`), and for reading on while the disk takes no writes (F48).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const BLOCK: usize = 4096;

/// Writes of the engine above bytes that stay as they are.
#[derive(Debug)]
pub(super) struct Overlay<B> {
    below: B,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    length: u64,
    /// Bytes of the file below that still show; what was cut off does not come back.
    shown: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl<B: StorageBackend> Overlay<B> {
    /// Above these bytes.
    pub(super) fn over(below: B) -> io::Result<Self> {
        let length = below.len()?;
        Ok(Overlay { below, above: Mutex::new(Above { length, shown: length, blocks: BTreeMap::new() }) })
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, shown: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(shown.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        out[there..].fill(0);
        if there == 0 { Ok(()) } else { self.below.read(offset, &mut out[..there]) }
    }
}

/// The blocks that bytes touch: number of the block, the part of it, the part of the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = usize::try_from(at % BLOCK as u64).unwrap_or_default();
        let count = (BLOCK - inside).min(length - done);
        let part = (at / BLOCK as u64, inside..inside + count, done..done + count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        if offset + out.len() as u64 > above.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(above.shown, offset, out)?;
        for (number, inside, outside) in parts(offset, out.len()) {
            if let Some(block) = above.blocks.get(&number) {
                out[outside].copy_from_slice(&block[inside]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut above = self.above();
        if length < above.length {
            above.shown = above.shown.min(length);
            let end = length.div_ceil(BLOCK as u64);
            above.blocks.retain(|number, _| *number < end);
            let inside = usize::try_from(length % BLOCK as u64).unwrap_or_default();
            if inside > 0
                && let Some(block) = above.blocks.get_mut(&(end - 1))
            {
                block[inside..].fill(0);
            }
        }
        above.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        above.length = above.length.max(offset + data.len() as u64);
        let shown = above.shown;
        for (number, inside, outside) in parts(offset, data.len()) {
            let block = match above.blocks.entry(number) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let mut block = Box::new([0; BLOCK]);
                    self.below(shown, number * BLOCK as u64, &mut block[..])?;
                    entry.insert(block)
                }
            };
            block[inside].copy_from_slice(&data[outside]);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    locks_of!(below);
}

/// The locks of a back end are those of the one in `$field`.
macro_rules! locks_of {
    ($field:ident) => {
        fn try_lock_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<bool, redb::BackendError> {
            self.$field.try_lock_range(start, end)
        }

        fn try_lock_shared_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<bool, redb::BackendError> {
            self.$field.try_lock_shared_range(start, end)
        }

        fn lock_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<(), redb::BackendError> {
            self.$field.lock_range(start, end)
        }

        fn lock_shared_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<(), redb::BackendError> {
            self.$field.lock_shared_range(start, end)
        }

        fn unlock_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<(), redb::BackendError> {
            self.$field.unlock_range(start, end)
        }

        fn query_lock_range(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<bool, redb::BackendError> {
            self.$field.query_lock_range(start, end)
        }
    };
}
pub(super) use locks_of;
