//! F23: a child eats memory, processor time or files; only that child dies.

use switchyard::upstream::stdio::{EndReason, Process, start};

use crate::support::*;

async fn neighbour() -> Process {
    let (mut process, _) = start_evil(&["echo"]);
    process.send("before");
    assert_eq!(process.text().await, "before");
    process
}

async fn assert_unharmed(mut neighbour: Process) {
    neighbour.send("after");
    assert_eq!(neighbour.text().await, "after");
}

#[tokio::test]
async fn f23_memory_of_the_whole_tree_counts_and_only_its_tree_dies() {
    let neighbour = neighbour().await;
    let (mut settings, mark) = evil(&["eat_memory", "1073741824"]);
    settings.max_memory = Some(100 * MIB);
    let mut process = start(settings).unwrap();
    assert_eq!(process.end().await, EndReason::MemoryLimit(100 * MIB));
    assert_none_alive(&mark);
    assert_unharmed(neighbour).await;
}

#[tokio::test]
async fn f23_a_tree_within_its_memory_lives() {
    let (mut settings, _) = evil(&["eat_memory", "20971520"]);
    settings.max_memory = Some(200 * MIB);
    let mut process = start(settings).unwrap();
    assert_eq!(process.text().await, "full");
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    process.send("still here");
    assert_eq!(process.text().await, "still here");
}

#[tokio::test]
async fn f23_processor_time_ends() {
    let neighbour = neighbour().await;
    let (mut settings, _) = evil(&["eat_cpu"]);
    settings.max_cpu_seconds = Some(1);
    let mut process = start(settings).unwrap();
    assert_eq!(process.end().await, EndReason::CpuLimit(1));
    assert_unharmed(neighbour).await;
}

#[tokio::test]
async fn f23_files_are_refused() {
    let neighbour = neighbour().await;
    let (mut settings, _) = evil(&["eat_files", "100"]);
    settings.max_open_files = Some(40);
    let mut process = start(settings).unwrap();
    assert_eq!(process.text().await, "refused at 37: Too many open files");
    assert_unharmed(neighbour).await;
}

#[tokio::test]
async fn a_warden_is_small() {
    let (mut settings, _) = evil(&["echo"]);
    settings.max_memory = Some(200 * MIB);
    let mut process = start(settings).unwrap();
    process.send("up");
    process.text().await;
    let warden = process.control.pid();
    let (all, own) = (memory(warden, "VmRSS"), memory(warden, "RssAnon"));
    println!("warden: {} KiB resident, {} KiB of them its own", all / 1024, own / 1024);
    // The rest is the program's own pages, which all wardens and the gateway share.
    assert!(own < 3 * MIB, "{all} bytes, {own} its own");
}
