//! The file `keys`: what identifiers are sealed with, kept so that they open after a restart.
//!
//! Always: keys are drawn in memory and written with the first state, so that what was sealed before opens afterwards,
//! here and after a restart; a file of keys is whole or not there, and for its owner alone. One key a line; the first
//! seals and all open (rotation: a new line on top). Not here: what is sealed (`seal`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::embedded::sync_folder;
use super::seal::SealingKey;

/// More than any rotation needs.
const FILE_LIMIT: u64 = 64 * 1024;

const HEAD: &str =
    "# Keys of this gateway, one a line. The first seals, all open: to rotate, put a new one on top.\n";

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read, or there is no randomness for new ones.
    #[error("{0}")]
    Unreadable(String),
    /// A line is no key.
    #[error("line {0} is not a key: 256 bits as base64url, 43 characters")]
    NotAKey(usize),
    /// There is none in it.
    #[error("there is no key in it")]
    Empty,
}

/// Keys as bytes, so that they can be written as they were read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Keys {
    /// One fresh key.
    pub(super) fn random() -> Result<Self, KeysError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| KeysError::Unreadable(error.to_string()))?;
        Ok(Keys(vec![key]))
    }

    /// Those of a file; `None` if it is not there. Blocks.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, KeysError> {
        let unreadable = |error: io::Error| KeysError::Unreadable(error.to_string());
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(unreadable)?,
        };
        warn_of_readers(path, &file);
        let mut text = String::new();
        file.take(FILE_LIMIT).read_to_string(&mut text).map_err(unreadable)?;
        Keys::parse(&text).map(Some)
    }

    fn parse(text: &str) -> Result<Self, KeysError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let keys =
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
                let bytes = URL_SAFE_NO_PAD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.ok_or(KeysError::NotAKey(number))
            });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Keys(keys)) }
    }

    /// Writes them to a file that is not there yet; if one is there, it must hold the same. Blocks.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        let of_another = || io::Error::new(io::ErrorKind::AlreadyExists, "another process made the keys");
        match Keys::read(path) {
            Ok(None) => {}
            Ok(Some(kept)) if kept == *self => return Ok(()),
            Ok(Some(_)) => return Err(of_another()),
            Err(error) => return Err(io::Error::other(format!("{}: {error}", path.display()))),
        }
        let mut text = HEAD.to_owned();
        for key in &self.0 {
            text.push_str(&URL_SAFE_NO_PAD.encode(key));
            text.push('\n');
        }
        // Whole under another name first; linking it fails if somebody else was faster, where renaming would not.
        let draft = path.with_extension(format!("new.{}", std::process::id()));
        let _ = std::fs::remove_file(&draft);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        let linked = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::hard_link(&draft, path));
        let removed = std::fs::remove_file(&draft);
        linked.map_err(
            |error| if error.kind() == io::ErrorKind::AlreadyExists { of_another() } else { error },
        )?;
        removed?;
        sync_folder(path)
    }

    /// For sealing.
    pub(super) fn for_sealing(&self) -> Vec<SealingKey> {
        self.0.iter().copied().map(SealingKey::new).collect()
    }
}

#[cfg(unix)]
fn warn_of_readers(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    if file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(file = %path.display(), "others can read the keys of this gateway; chmod 600 is enough for it");
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_: &Path, _: &File) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::places::Place;

    #[test]
    fn s_trust_04_keys_are_kept_whole_and_for_their_owner() {
        let place = Place::new();
        let path = place.path("keys");
        assert!(Keys::read(&path).expect("readable").is_none());
        let keys = Keys::random().expect("randomness");
        keys.keep(&path).expect("written");
        keys.keep(&path).expect("they are there");
        assert_eq!(Keys::read(&path).expect("readable"), Some(keys.clone()));
        let other = Keys::random().expect("randomness").keep(&path).expect_err("there are others");
        assert_eq!(other.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(Keys::read(&path).expect("readable"), Some(keys), "they were left alone");
        assert_eq!(std::fs::read_dir(place.path("")).expect("a folder").count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn s_trust_04_a_new_key_stands_on_top() {
        let line = |byte| URL_SAFE_NO_PAD.encode([byte; 32]);
        let keys = Keys::parse(&format!("# a comment\n\n{}\n  {}\n", line(2), line(1))).expect("two keys");
        assert_eq!(keys, Keys(vec![[2; 32], [1; 32]]));
        assert!(matches!(Keys::parse("# nothing\n"), Err(KeysError::Empty)));
        assert!(matches!(Keys::parse(&format!("{}\nshort\n", line(1))), Err(KeysError::NotAKey(2))));
        assert!(!format!("{keys:?}").contains('2'));
    }
}
