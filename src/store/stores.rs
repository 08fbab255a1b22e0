//! What a gateway keeps state in: opened once, from the settings.
//!
//! Always: a state that is there is read before anything is served, or the opening fails with one line; one that is not
//! there is made by the first write, keys first, the directory for its owner alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bus::{Bus, LocalBus};
use super::clock::Clock;
use super::embedded::Embedded;
use super::error::StoreError;
use super::keys::{Keys, KeysError};
use super::leases::{Leases, RecordedLeases};
use super::limits::{Limits, LocalLimits};
use super::memory::Memory;
use super::records::Records;
use super::seal::Sealer;
use super::streams::{RecordedStreams, Streams};
use crate::config::state::StateSettings;

/// The file of records in the directory of `state`.
pub const STORE_FILE: &str = "store.redb";
/// The file of keys beside it.
const KEYS_FILE: &str = "keys";

/// Everything that keeps state.
#[derive(Debug, Clone)]
pub struct Stores {
    /// What time it is, for all of them.
    pub clock: Clock,
    /// Durable, unless `state` is `memory`.
    pub records: Arc<dyn Records>,
    /// Durable logs of events, in the records.
    pub streams: Arc<dyn Streams>,
    /// Who does what nobody else may do, in the records.
    pub leases: Arc<dyn Leases>,
    /// Quotas, in this process.
    pub limits: Arc<dyn Limits>,
    /// Hints, in this process.
    pub bus: Arc<dyn Bus>,
    /// Seals with keys that are kept as soon as anything is.
    pub sealer: Arc<Sealer>,
}

/// What to do if another process has the store open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfLocked {
    /// Fail: two gateways on one state would be a mistake.
    Refuse,
    /// Keep state in memory, with a warning: each client of `switchyard stdio` starts its own.
    Forget,
}

/// Why there is no state to work with: one line for people.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The records.
    #[error("the state in {} cannot be used: {why}", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: StoreError,
    },
    /// The keys.
    #[error("the keys in {} cannot be used: {why}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: KeysError,
    },
}

/// Opens what is kept. Blocks: before the gateway serves.
pub fn open(settings: &StateSettings, if_locked: IfLocked, clock: Clock) -> Result<Stores, OpenError> {
    let StateSettings::Directory(directory) = settings else {
        let keys = Keys::random().map_err(|why| OpenError::Keys { path: PathBuf::new(), why })?;
        return Ok(Stores::new(clock, Arc::new(Memory::new(clock)), &keys));
    };
    let path = directory.join(KEYS_FILE);
    let keys = Keys::read(&path).and_then(|kept| kept.map_or_else(Keys::random, Ok));
    let keys = keys.map_err(|why| OpenError::Keys { path: path.clone(), why })?;
    let before = {
        let (directory, keys) = (directory.clone(), keys.clone());
        move || make_directory(&directory).and_then(|()| keys.keep(&path))
    };
    let path = directory.join(STORE_FILE);
    let records = Embedded::open(path.clone(), before, if_locked == IfLocked::Forget, clock)
        .map_err(|why| OpenError::Records { path, why })?;
    Ok(Stores::new(clock, Arc::new(records), &keys))
}

impl Stores {
    fn new(clock: Clock, records: Arc<dyn Records>, keys: &Keys) -> Self {
        let sealer = Sealer::new(&keys.for_sealing()).expect("keys are never none");
        Stores {
            clock,
            streams: Arc::new(RecordedStreams::new(Arc::clone(&records))),
            leases: Arc::new(RecordedLeases::new(Arc::clone(&records), clock)),
            limits: Arc::new(LocalLimits::default()),
            bus: Arc::new(LocalBus::default()),
            records,
            sealer: Arc::new(sealer),
        }
    }
}

/// Makes the directory, for its owner alone; one that is there stays as it is.
fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    super::embedded::sync_folder(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::put;
    use crate::store::places::Place;
    use crate::store::records::{Position, Space};
    use crate::store::seal::Purpose;

    const TASK: Purpose = Purpose::new("task");

    fn open(place: &Place, if_locked: IfLocked) -> Result<Stores, OpenError> {
        super::open(&StateSettings::Directory(place.path("deep/state")), if_locked, Clock::system())
    }

    #[tokio::test]
    async fn nothing_is_made_before_the_first_write_and_all_of_it_lasts() {
        let place = Place::new();
        let stores = open(&place, IfLocked::Refuse).expect("nothing is there");
        let space = Space::new("thing");
        assert_eq!(stores.records.get(space, b"a").await, Ok(None));
        assert!(stores.records.scan(space, Position::First, 9).await.expect("read").items.is_empty());
        assert_eq!(stores.records.take(space, b"a").await, Ok(None));
        assert_eq!(stores.records.purge(9).await, Ok(0));
        assert!(!place.path("deep").exists());
        let sealed = stores.sealer.seal(TASK, &["me"], b"early");
        stores.records.write(vec![put("a", "1")]).await.expect("written");
        stores.records.close().await;
        assert_eq!(stores.records.get(space, b"a").await, Err(StoreError::Closed));
        assert_eq!(stores.records.write(vec![put("a", "1")]).await, Err(StoreError::Closed.into()));

        let stores = open(&place, IfLocked::Refuse).expect("it was closed");
        assert_eq!(&stores.records.get(space, b"a").await.expect("read").expect("kept").value[..], b"1");
        let opened = stores.sealer.open(TASK, &["me"], &sealed);
        assert_eq!(opened.as_deref(), Ok(&b"early"[..]), "what was sealed before the keys were kept opens");
        #[cfg(unix)]
        for (name, expected) in
            [("deep/state", 0o700), ("deep/state/keys", 0o600), ("deep/state/store.redb", 0o600)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(place.path(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_state_in_use_is_refused_or_replaced_by_memory() {
        let place = Place::new();
        let first = open(&place, IfLocked::Refuse).expect("nothing is there");
        // Opened before there was anything to lock.
        let early = open(&place, IfLocked::Refuse).expect("nothing is there");
        let lenient = open(&place, IfLocked::Forget).expect("nothing is there");
        first.records.write(vec![put("a", "1")]).await.expect("written");
        assert_eq!(early.records.write(vec![put("a", "2")]).await, Err(StoreError::Locked.into()));
        lenient.records.write(vec![put("a", "3")]).await.expect("written, to memory");

        let refused = open(&place, IfLocked::Refuse).expect_err("it is in use").to_string();
        assert!(refused.ends_with("cannot be used: the store is in use by another process"), "{refused}");
        assert!(!refused.contains('\n'));
        let late = open(&place, IfLocked::Forget).expect("memory is always there");
        let space = Space::new("thing");
        assert_eq!(late.records.get(space, b"a").await, Ok(None));
        late.records.write(vec![put("a", "4")]).await.expect("written, to memory");
        assert_eq!(&first.records.get(space, b"a").await.expect("read").expect("kept").value[..], b"1");
    }

    #[tokio::test]
    async fn what_is_no_store_is_refused_and_left_alone() {
        let place = Place::new();
        let path = place.path("deep/state/store.redb");
        std::fs::create_dir_all(place.path("deep/state")).expect("a folder");
        std::fs::write(&path, b"something else entirely, of some length ".repeat(200)).expect("written");
        let refused = open(&place, IfLocked::Forget).expect_err("no store").to_string();
        assert!(
            refused.contains("is damaged") && refused.contains("store repair") && !refused.contains('\n'),
            "{refused}"
        );
        assert!(std::fs::metadata(&path).expect("there").len() == 8_000);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(place.path("deep/state/keys"), "no key\n").expect("written");
        let refused = open(&place, IfLocked::Refuse).expect_err("no key").to_string();
        assert!(refused.contains("line 1 is not a key") && !refused.contains('\n'), "{refused}");
    }
}
