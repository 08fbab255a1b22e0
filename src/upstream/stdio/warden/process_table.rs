//! Who descends from whom, read from `/proc`.
//!
//! Always: a snapshot may be out of date as soon as it is taken, so whoever acts on one looks again until nothing is
//! left to do. Between a look and a signal pass microseconds, in which the kernel does not come round to reusing a pid.

use std::collections::HashSet;
use std::io::Read;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Looks at a session before it is given up; each kills what it finds.
const SWEEPS: usize = 100;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) name: String,
    pub(super) resident_pages: u64,
    parent: i32,
    session: i32,
    dead: bool,
}

impl Process {
    /// One process; `None` when there is none.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        let mut text = Vec::with_capacity(512);
        let mut file = std::fs::File::open(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        file.read_to_end(&mut text).ok()?;
        Process::parse(pid, &String::from_utf8_lossy(&text))
    }

    /// `pid (name) state parent group session …`; the name may hold anything, also parentheses and spaces.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        // The resident set is field 24 of the line; field 7 comes next.
        let resident_pages = fields.nth(17)?.parse().ok()?;
        let dead = matches!(state, "Z" | "X");
        Some(Process { pid, name: name.to_owned(), resident_pages, parent, session, dead })
    }

    /// Whether it is dead. When it was our own child, it is reaped; else its parent will, or we when that is dead too.
    pub(super) fn reap_if_dead(&self) -> bool {
        if self.dead {
            let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        }
        self.dead
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter_map(Process::read).collect()
}

/// Everybody below `root`, dead or alive.
pub(super) fn descendants(root: Pid) -> Vec<Process> {
    let mut rest = all();
    let mut family = HashSet::from([root.as_raw_nonzero().get()]);
    let mut found = Vec::new();
    loop {
        let (children, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|process| family.contains(&process.parent));
        if children.is_empty() {
            return found;
        }
        family.extend(children.iter().map(|process| process.pid.as_raw_nonzero().get()));
        found.extend(children);
        rest = others;
    }
}

/// Kills everybody in a session. Blocks for the time of a few looks.
pub(in super::super) fn kill_session(session: u32) {
    let Ok(session) = i32::try_from(session) else { return };
    for _ in 0..SWEEPS {
        let alive: Vec<_> =
            all().into_iter().filter(|process| process.session == session && !process.dead).collect();
        if alive.is_empty() {
            return;
        }
        for process in alive {
            let _ = kill_process(process.pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_disturb_the_fields() {
        let pid = Pid::from_raw(7).unwrap();
        let stat = "7 (a) Z 1 (b) S 5 6 4 0 -1 4194560 99 0 0 0 1 2 0 0 20 0 1 0 12345 8888 222 18446744073709551615";
        let process = Process::parse(pid, stat).unwrap();
        assert_eq!(
            (process.parent, process.session, process.resident_pages, process.dead),
            (5, 4, 222, false)
        );
        assert_eq!(process.name, "a) Z 1 (b");
    }

    #[test]
    fn this_process_is_its_parents_descendant() {
        let parent = rustix::process::getppid().unwrap();
        let own = rustix::process::getpid();
        let found =
            descendants(parent).into_iter().find(|process| process.pid == own).expect("we are listed");
        assert!(found.resident_pages > 100 && !found.dead);
    }
}
