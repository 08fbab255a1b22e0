//! How large a process is, from the outside: resident memory and open files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Context as _, Result};

use crate::upstream::Upstream;

const MIB: u64 = 1024 * 1024;

/// Memory and files at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    resident: u64,
    /// Open files without the connections that are kept for the next call to an upstream: how many of those there are is
    /// the pool's affair. They are counted on this side: an upstream learns of an end later.
    files: usize,
    pooled: usize,
}

impl Footprint {
    /// Looks at a process; `upstreams` are the only ones it connects to.
    #[expect(clippy::disallowed_methods, reason = "the kernel answers at once; there is no disk behind it")]
    pub(crate) fn of(process: u32, upstreams: &[Upstream]) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let resident = resident.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
        let (mut files, mut pooled) = (0, 0);
        for (file, count) in open_files(process)? {
            let is_pooled = matches!(&file, OpenFile::Connection(port, _) if upstreams.iter().any(|of| of.address().port() == *port));
            *if is_pooled { &mut pooled } else { &mut files } += count;
        }
        Ok(Footprint { resident, files, pooled })
    }

    /// Says by what it is larger than it was: more than a tenth or 8 MiB of memory, or any file.
    pub(crate) fn excess_over(&self, baseline: &Footprint) -> Option<String> {
        let allowed = baseline.resident + (baseline.resident / 10).max(8 * MIB);
        let grown = self.resident > allowed || self.files > baseline.files;
        grown.then(|| format!("grown from {baseline} to {self}"))
    }
}

/// One open file, for whoever wonders about a number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OpenFile {
    /// A connection, by the port of the other side, and its state as the kernel writes it.
    Connection(u16, String),
    /// Anything else, by its path.
    Other(String),
}

/// What a process's open files are, and how many of each.
#[expect(clippy::disallowed_methods, reason = "the kernel answers at once; there is no disk behind it")]
pub(crate) fn open_files(process: u32) -> Result<BTreeMap<OpenFile, usize>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        // One that was closed meanwhile is none.
        if let Ok(target) = std::fs::read_link(entry?.path()) {
            targets.push(target.to_string_lossy().into_owned());
        }
    }
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp"))?;
    let connection = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words.get(2)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((format!("socket:[{}]", words.get(9)?), (port, (*words.get(3)?).to_owned())))
    };
    let connections: HashMap<String, (u16, String)> = table.lines().skip(1).filter_map(connection).collect();
    let mut files = BTreeMap::new();
    for target in targets {
        let file = match connections.get(&target) {
            Some((port, state)) => OpenFile::Connection(*port, state.clone()),
            None => OpenFile::Other(target),
        };
        *files.entry(file).or_insert(0) += 1;
    }
    Ok(files)
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.resident as f64 / MIB as f64;
        write!(f, "{mebibytes:.1} MiB, {} files and {} pooled connections", self.files, self.pooled)
    }
}

#[test]
fn growth_of_memory_or_files_is_noticed() {
    let baseline = Footprint { resident: 50 * MIB, files: 20, pooled: 3 };
    let with = |resident, files| Footprint { resident, files, pooled: 90 };
    assert!(with(58 * MIB, 20).excess_over(&baseline).is_none());
    assert!(with(59 * MIB, 20).excess_over(&baseline).is_some());
    assert!(with(50 * MIB, 21).excess_over(&baseline).is_some());
    let large = Footprint { resident: 200 * MIB, ..baseline };
    assert!(with(219 * MIB, 20).excess_over(&large).is_none());
    assert!(with(221 * MIB, 20).excess_over(&large).is_some());
}
