//! `switchyard tasks …`: what it prints of the tasks of a running gateway, and the exit codes it ends with.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::client::Client;
use crate::support::command_line::Directory;
use crate::support::gateway::Ended;
use crate::support::upstream::Manner;
use crate::support::{Gateway, STATELESS, Transport, Upstream, gateway, patiently, upstream};

/// A gateway with tasks, and somebody at a terminal.
struct Stage {
    one: Upstream,
    _gateway: Gateway,
    client: Client,
    directory: Directory,
    admin: String,
}

impl Stage {
    async fn set() -> Stage {
        let one = upstream("one", STATELESS, Transport::Http).tasks(Manner::default()).start().await;
        let gateway = gateway().with("one", &one).start().await;
        let client = gateway.stateless().with_tasks();
        client.until_tools(&["one__long"]).await;
        let admin = format!("http://{}", gateway.admin.address);
        Stage { one, _gateway: gateway, client, directory: Directory::new().await, admin }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut all = vec!["tasks"];
        all.extend(arguments);
        all.extend(["--admin", &self.admin]);
        self.directory.run(&all).await
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let ended = self.run(&all).await;
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        serde_json::from_str(&ended.stdout).expect("nothing but JSON")
    }

    /// Begin a task; gives its id and the number by which an operator knows it.
    async fn begin(&self, arguments: Value) -> (String, String) {
        let known = self.numbers().await;
        let id = self.client.begin_id("one__long", arguments).await;
        let mut new = self.numbers().await;
        new.retain(|number| !known.contains(number));
        (id, new.pop().expect("one more"))
    }

    async fn numbers(&self) -> Vec<String> {
        let rows = self.json(&["list"]).await;
        let numbers =
            rows.as_array().expect("rows").iter().map(|row| row["task"].as_str().expect("a number"));
        numbers.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn tasks_shows_a_table_to_people_and_json_to_programs() {
    let stage = Stage::set().await;
    let empty = stage.run(&[]).await;
    assert_eq!((empty.code(), empty.stdout.lines().count()), (0, 1), "a heading: {}", empty.stdout);
    let (_, number) = stage.begin(json!({})).await;
    let (cancelled, other) = stage.begin(json!({})).await;
    stage.client.cancel_task(&cancelled).await.result();
    for verb in [&[][..], &["list"]] {
        let table = stage.run(verb).await.stdout;
        let row = table.lines().find(|line| line.starts_with(&number)).expect("its row");
        for cell in ["working", "one", "one__long", "local", "linked"] {
            assert!(row.contains(cell), "no {cell} in {row}");
        }
    }
    let chosen =
        stage.run(&["list", "--state", "cancelled", "--server", "one", "--principal", "local"]).await;
    assert!(chosen.stdout.contains(&other) && !chosen.stdout.contains(&number), "{}", chosen.stdout);
    let row = stage.json(&["get", &number[..18]]).await;
    assert_eq!((&row["task"], &row["state"]), (&json!(number), &json!("working")));
    assert!(stage.run(&["get", &number]).await.stdout.contains("working"));
    assert_eq!(stage.run(&["list", "--state", "odd"]).await.code(), 2, "not a state");
}

#[tokio::test]
async fn tasks_result_tells_by_its_exit_code_how_the_call_ended() {
    let stage = Stage::set().await;
    let (running, number) = stage.begin(json!({})).await;
    let early = stage.run(&["result", &number]).await;
    assert_eq!((early.code(), early.stdout.as_str()), (1, ""));
    assert!(early.stderr.contains("not over"), "{}", early.stderr);
    stage.one.complete(&stage.one.until_task(1).await, "done");
    stage.client.until_over(&running).await;
    let well = stage.run(&["result", &number]).await;
    assert_eq!((well.code(), well.stdout.as_str()), (0, "done\n"));
    assert_eq!(stage.json(&["result", &number]).await["content"][0]["text"], "done");

    let error = json!({ "code": -32000, "message": "broken" });
    for (arguments, words) in [
        (json!({ "after": 1, "text": "x", "isError": true }), "x"),
        (json!({ "after": 1, "error": error }), "broken"),
    ] {
        let (id, number) = stage.begin(arguments).await;
        stage.client.until_over(&id).await;
        let ill = stage.run(&["result", &number]).await;
        assert_eq!(ill.code(), 1);
        assert!(format!("{}{}", ill.stdout, ill.stderr).contains(words), "{ill:?}");
    }
    let (id, number) = stage.begin(json!({})).await;
    stage.client.cancel_task(&id).await.result();
    let none = stage.run(&["result", &number]).await;
    assert!(none.code() == 1 && none.stderr.contains("cancelled"), "{}", none.stderr);
}

#[tokio::test]
async fn tasks_cancel_cancels_once() {
    let stage = Stage::set().await;
    let (id, number) = stage.begin(json!({})).await;
    let ended = stage.run(&["cancel", &number]).await;
    assert!(ended.code() == 0 && ended.stdout.contains("cancelled"), "{ended:?}");
    assert_eq!(stage.client.task(&id).await.result()["status"], "cancelled");
    let again = stage.run(&["cancel", &number]).await;
    assert!(again.code() == 1 && again.stderr.contains("over"), "{}", again.stderr);
    for unknown in ["ffffffffffff", "a/b", "x y"] {
        let ended = stage.run(&["cancel", unknown]).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{unknown}");
    }
}

#[tokio::test]
async fn tasks_watch_shows_a_task_up_to_its_end() {
    let stage = Stage::set().await;
    let (_, number) = stage.begin(json!({})).await;
    let theirs = stage.one.until_task(1).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.args(["tasks", "watch", &number, "--admin", &stage.admin]).kill_on_drop(true);
    let mut watch = command.stdout(Stdio::piped()).spawn().expect("it was built with the tests");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let first = patiently("the state now", lines.next_line()).await.expect("UTF-8").expect("a line");
    assert!(first.contains("working"), "{first}");
    stage.one.complete(&theirs, "done");
    let mut last = first;
    while let Some(line) = patiently("the next state", lines.next_line()).await.expect("UTF-8") {
        last = line;
    }
    assert!(last.contains("completed"), "{last}");
    assert_eq!(patiently("its end", watch.wait()).await.expect("a child ends").code(), Some(0));
    let over = stage.run(&["watch", "--json", &number]).await;
    let lines: Vec<Value> =
        over.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON, one a line")).collect();
    assert_eq!(lines.len(), 1, "it was over already");
    assert_eq!(lines[0]["state"], "completed");
}
