//! What the system says of processes: memory, open files, children.
//!
//! Always: read from `/proc`, which answers at once. Not here: starting and ending them.

/// Resident memory of a process in bytes.
pub(crate) async fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:").await
}

/// The most that it was so far.
pub(crate) async fn peak(pid: u32) -> u64 {
    memory(pid, "VmHWM:").await
}

async fn memory(pid: u32, kind: &str) -> u64 {
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.expect("it runs");
    let line = status.lines().find(|line| line.starts_with(kind)).expect("Linux tells");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kilobytes << 10
}

/// Processor time that a process has used, in the system's ticks.
pub(crate) async fn processor_time(pid: u32) -> u64 {
    let stat = tokio::fs::read_to_string(format!("/proc/{pid}/stat")).await.expect("it runs");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// How many files a process has open, sockets and pipes included.
pub(crate) async fn open_files(pid: u32) -> usize {
    let mut entries = tokio::fs::read_dir(format!("/proc/{pid}/fd")).await.expect("it runs");
    let mut count = 0;
    while let Ok(Some(_)) = entries.next_entry().await {
        count += 1;
    }
    count
}

/// Every living process below this one.
pub(crate) async fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    let mut entries = tokio::fs::read_dir("/proc").await.expect("Linux has it");
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = tokio::fs::read_to_string(format!("/proc/{child}/stat")).await.unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = rest.split_whitespace();
        let is_zombie = fields.next() == Some("Z");
        if let Some(parent) = fields.next().and_then(|field| field.parse::<u32>().ok()).filter(|_| !is_zombie)
        {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.remove(0);
    found
}

/// How many of these clients a listener on loopback still has a connection to, by the system's own table.
pub(crate) async fn connected(listener: std::net::SocketAddr, clients: &[u16]) -> usize {
    let table = tokio::fs::read_to_string("/proc/net/tcp").await.expect("Linux has it");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap_or_default(), 16).ok();
    let is_held = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, peer, state) = (fields.next(), fields.next(), fields.next());
        let peer = peer.and_then(port);
        own.and_then(port) == Some(listener.port())
            && peer.is_some_and(|peer| clients.contains(&peer))
            && state == Some("01")
    };
    table.lines().filter(is_held).count()
}
