//! Disks that lose power, are full, fail, hang and rot, and what the store does then (F46 to F50, T3, T4).

mod crash;
mod damage;
mod failing;
mod repair;
mod scale;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::Embedded;
use super::cause::Cause;
use super::engine::{Engine, founded};
use super::medium::Medium;
use super::overlay::Overlay;
use crate::store::clock::Clock;
use crate::store::records::Space;

pub(super) const SPACE: Space = Space::new("thing");

/// What is done to a disk.
#[derive(Debug, Clone)]
enum Operation {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
    /// The whole store at once.
    Founded(Vec<u8>),
    /// So many writes were acknowledged before this.
    Acknowledged(usize),
}

/// A disk in memory that does as a test says.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    log: Mutex<Vec<Operation>>,
    is_recording: AtomicBool,
    /// It takes no more bytes than it has.
    is_full: AtomicBool,
    /// No byte can be changed, for lack of space.
    is_stuffed: AtomicBool,
    /// After so many further operations some fail; 0: none does.
    fails_after: AtomicU32,
    /// So many of them.
    failures: AtomicU32,
    is_syncing: AtomicBool,
    /// Syncs wait as long as this holds.
    hangs: Mutex<bool>,
    released: Condvar,
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Disk { bytes: Mutex::new(bytes), ..Disk::default() })
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("not poisoned").clone()
    }

    fn log(&self, operation: impl FnOnce() -> Operation) {
        if self.is_recording.load(Ordering::Relaxed) {
            self.log.lock().expect("not poisoned").push(operation());
        }
    }

    fn hang(&self, hangs: bool) {
        *self.hangs.lock().expect("not poisoned") = hangs;
        self.released.notify_all();
    }

    fn heal(&self) {
        self.is_full.store(false, Ordering::Relaxed);
        self.is_stuffed.store(false, Ordering::Relaxed);
        self.fails_after.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
    }

    fn may_fail(&self) -> io::Result<()> {
        match self.fails_after.load(Ordering::Relaxed) {
            0 => return Ok(()),
            1 => {}
            more => {
                self.fails_after.store(more - 1, Ordering::Relaxed);
                return Ok(());
            }
        }
        match self.failures.load(Ordering::Relaxed) {
            0 => self.fails_after.store(0, Ordering::Relaxed),
            more => {
                self.failures.store(more - 1, Ordering::Relaxed);
                // EIO
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        Ok(())
    }

    fn store(self: &Arc<Self>) -> Embedded {
        let medium = Box::new(OnTest(Arc::clone(self)));
        Embedded::on(medium, false, Duration::from_millis(5), Clock::starting_at(Duration::from_secs(1)))
            .expect("opened")
    }

    fn engine(self: &Arc<Self>) -> Result<Engine, crate::store::error::StoreError> {
        Engine::open(Box::new(OnTest(Arc::clone(self))), false, Duration::from_millis(5))
    }
}

#[derive(Debug, Clone)]
struct OnTest(Arc<Disk>);

impl Medium for OnTest {
    fn is_there(&self) -> bool {
        !self.0.bytes.lock().expect("not poisoned").is_empty()
    }

    fn prepare(&self) -> Result<(), Cause> {
        let draft = Disk::with(Vec::new());
        founded(OnTest(Arc::clone(&draft)))?;
        *self.0.bytes.lock().expect("not poisoned") = draft.bytes();
        self.0.log(|| Operation::Founded(draft.bytes()));
        Ok(())
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(self.clone())
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Overlay::over(self.clone())?)
    }
}

impl StorageBackend for OnTest {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().expect("not poisoned").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes.lock().expect("not poisoned");
        let start = usize::try_from(offset).expect("small");
        let from = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.0.bytes.lock().expect("not poisoned");
        let is_growing = len > bytes.len() as u64;
        if is_growing && (self.0.is_full.load(Ordering::Relaxed) || self.0.is_stuffed.load(Ordering::Relaxed))
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.may_fail()?;
        bytes.resize(usize::try_from(len).expect("small"), 0);
        self.0.log(|| Operation::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.is_syncing.store(true, Ordering::Release);
        let hangs = self.0.hangs.lock().expect("not poisoned");
        drop(self.0.released.wait_while(hangs, |hangs| *hangs).expect("not poisoned"));
        self.0.is_syncing.store(false, Ordering::Release);
        self.0.may_fail()?;
        self.0.log(|| Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.is_stuffed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.may_fail()?;
        apply(&mut self.0.bytes.lock().expect("not poisoned"), offset, data);
        self.0.log(|| Operation::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).expect("small");
    if bytes.len() < start + data.len() {
        bytes.resize(start + data.len(), 0);
    }
    bytes[start..start + data.len()].copy_from_slice(data);
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("small")
    }
}
