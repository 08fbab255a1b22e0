//! Where the engine keeps its bytes: a file, or memory.
//!
//! Always: a store is whole from its first moment, because it is founded below another name; after a failed sync nothing
//! is believed that is only in the system's cache. Not here: when to open what (`engine`).

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::cause::{Cause, of_disk};
use super::engine::founded;
use super::overlay::Overlay;

/// A place for a store. All of it blocks.
pub(super) trait Medium: Send + Sync + Debug {
    /// Whether there is a store already.
    fn is_there(&self) -> bool;

    /// Founds the store where there is none: at once or not at all.
    fn prepare(&self) -> Result<(), Cause>;

    /// Opens the store for reading and writing; makes it if it is not there.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens the store so that nothing of it is changed: what the engine writes stays in memory.
    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError>;
}

/// A file.
pub(super) struct OnDisk {
    path: PathBuf,
    /// What else has to be on the disk before the first record.
    before: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl OnDisk {
    /// The file at `path`; `before` runs whenever it is about to be made.
    pub(super) fn new(path: PathBuf, before: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        OnDisk { path, before: Box::new(before) }
    }
}

/// An empty file for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.read(true).write(true).create(true).truncate(true).open(path)
}

impl Debug for OnDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnDisk").field(&self.path).finish()
    }
}

impl Medium for OnDisk {
    fn is_there(&self) -> bool {
        // A file that cannot be looked at is one that cannot be opened, which is then told.
        !matches!(self.path.try_exists(), Ok(false))
    }

    fn prepare(&self) -> Result<(), Cause> {
        let of_disk = |error: io::Error| Cause::from(of_disk(&error));
        (self.before)().map_err(of_disk)?;
        // The engine writes a new file in steps. Killed between them, it would leave what is no store (F46).
        let draft = self.path.with_extension(format!("new.{}", std::process::id()));
        let made = create(&draft).map_err(of_disk).and_then(|file| {
            founded(Disk::of(file).map_err(of_disk)?)?;
            // Fails if another process was faster, where renaming would not.
            std::fs::hard_link(&draft, &self.path).map_err(of_disk)
        });
        let removed = std::fs::remove_file(&draft);
        made?;
        removed.and_then(|()| sync_folder(&self.path)).map_err(of_disk)
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        builder.create_with_backend(Disk::of(file)?)
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        // Opened for writing because the lock of a writer is taken on it.
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        builder.create_with_backend(Overlay::over(FileBackend::new(file)?)?)
    }
}

/// Makes the name of a new file last.
pub(in crate::store) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The engine's own file access, mistrusted after a failure.
#[derive(Debug)]
pub(super) struct Disk {
    engine: FileBackend,
    /// The same open file.
    same: File,
}

impl Disk {
    pub(super) fn of(file: File) -> io::Result<Self> {
        Ok(Disk { same: file.try_clone()?, engine: FileBackend::new(file).map_err(io::Error::other)? })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.engine.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.engine.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.engine.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.engine.sync_data().inspect_err(|_| {
            // Pages that did not reach the disk count as clean from now on: what is read again must come from the disk.
            #[cfg(target_os = "linux")]
            let _ = rustix::fs::fadvise(&self.same, 0, None, rustix::fs::Advice::DontNeed);
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.engine.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.engine.close()
    }

    super::overlay::locks_of!(engine);
}

/// Memory: nothing of it lasts.
#[derive(Debug)]
pub(super) struct InMemory;

impl Medium for InMemory {
    fn is_there(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result<(), Cause> {
        Ok(())
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(InMemoryBackend::new())
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        self.open(builder)
    }
}
