//! Where the engine keeps its bytes: a file, or memory.
//!
//! Always: a file grows only by space that the disk has promised, so that a full disk refuses growth and nothing else
//! (F48); after a failed sync nothing is believed that is only in the system's cache. Not here: when to open what (`engine`).

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::cause::{Cause, of_disk};
use super::overlay::Overlay;

/// A place for a store. All of it blocks.
pub(super) trait Medium: Send + Sync + Debug {
    /// Whether there is a store already.
    fn is_there(&self) -> bool;

    /// Makes the place where there is none.
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

    fn file(&self, options: &mut OpenOptions) -> io::Result<File> {
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
        options.read(true).write(true).open(&self.path)
    }
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
        let made = || {
            (self.before)()?;
            self.file(OpenOptions::new().create(true).truncate(false))?;
            sync_folder(&self.path)
        };
        made().map_err(|error: io::Error| of_disk(&error).into())
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = self.file(&mut OpenOptions::new())?;
        builder.create_with_backend(Disk { same: file.try_clone()?, engine: FileBackend::new(file)? })
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = File::open(&self.path)?;
        builder.create_with_backend(Overlay::over(FileBackend::new(file)?)?)
    }
}

/// Makes the name of a new file last.
pub(in crate::store) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The engine's own file access, with space that is promised before it is used.
#[derive(Debug)]
struct Disk {
    engine: FileBackend,
    /// The same open file.
    same: File,
}

impl Disk {
    #[cfg(target_os = "linux")]
    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        loop {
            match fallocate(&self.same, FallocateFlags::empty(), from, to - from) {
                Err(Errno::INTR) => {}
                // A file system that cannot promise: it may still refuse a write later, which is then an error.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                reserved => return Ok(reserved?),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
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
        let now = self.engine.len()?;
        if len > now
            && let Err(refused) = self.reserve(now, len)
        {
            // What was promised of it is given back.
            let _ = self.engine.set_len(now);
            return Err(refused);
        }
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
