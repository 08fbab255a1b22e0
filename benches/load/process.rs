//! What the kernel knows about a process and its children: processor time and memory.
//!
//! Always: a figure covers the process and everything it started, so nginx's workers count as nginx.
//! Not here: starting and stopping (`nginx`, `gateway`, `upstream`).

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Ticks per second of the times in `/proc`; fixed by the kernel's interface on the machines this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process and its children, by the id of the first.
#[derive(Debug, Clone)]
pub(crate) struct ProcessTree {
    members: Vec<u32>,
}

impl ProcessTree {
    /// Looks up everything that `root` has started so far.
    pub(crate) fn of(root: u32) -> Result<Self> {
        let parents = parents()?;
        let mut members = vec![root];
        let mut next = 0;
        while next < members.len() {
            let parent = members[next];
            members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
            next += 1;
        }
        Ok(ProcessTree { members })
    }

    /// How many processes it has.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// User and system time so far.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut ticks = 0;
        for id in &self.members {
            let fields = stat(*id)?;
            let field = |number: usize| fields.get(number).and_then(|text| text.parse::<u64>().ok());
            ticks += field(11).context("utime")? + field(12).context("stime")?;
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory now, bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.sum("VmRSS:")
    }

    /// Highest resident memory since start or since the last reset, bytes.
    pub(crate) fn resident_peak(&self) -> Result<u64> {
        self.sum("VmHWM:")
    }

    /// Lets the peak start again from now.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        for id in &self.members {
            std::fs::write(format!("/proc/{id}/clear_refs"), "5")?;
        }
        Ok(())
    }

    fn sum(&self, field: &str) -> Result<u64> {
        let mut total = 0;
        for id in &self.members {
            let status = read(&format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
            let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
            total += kibibytes * 1024;
        }
        Ok(total)
    }
}

/// Fields of `/proc/ID/stat` after the name: state is 0, parent is 1.
fn stat(id: u32) -> Result<Vec<String>> {
    let text = read(&format!("/proc/{id}/stat")).context("the process is gone")?;
    let after_name = text.rsplit(')').next().context("no name")?;
    Ok(after_name.split_whitespace().map(str::to_owned).collect())
}

fn parents() -> Result<Vec<(u32, u32)>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while we look.
        let Ok(fields) = stat(id) else { continue };
        if let Some(parent) = fields.get(1).and_then(|text| text.parse().ok()) {
            parents.push((id, parent));
        }
    }
    Ok(parents)
}

#[expect(clippy::disallowed_methods, reason = "the kernel answers at once; there is no disk behind it")]
fn read(path: &str) -> Result<String> {
    Ok(std::fs::read_to_string(path)?)
}
