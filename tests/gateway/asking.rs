//! Commands that ask a running gateway: where they look for it, what they need for that, and what they let through.

use serde_json::{Value, json};

use crate::support::command_line::Directory;
use crate::support::gateway::Gateway;
use crate::support::{STATELESS, eventually, gateway, http_upstream};

fn url(gateway: &Gateway) -> String {
    format!("http://{}{}", gateway.endpoint.address, gateway.endpoint.path)
}

fn admin(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin.address)
}

#[tokio::test]
async fn whoever_looks_needs_the_addresses_and_no_secret() {
    let directory = Directory::new().await;
    let one = http_upstream("one").start().await;
    let gateway = gateway().with("one", &one).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    // The file of a gateway that was started where these lead somewhere.
    let file = format!(
        "listen: {}\nadmin: {}\norigins: [\"${{env:SURELY_NOT_SET}}\"]\nservers:\n  one: {{ url: \"http://127.0.0.1:1/\", headers: {{ Authorization: \"Bearer ${{env:SURELY_NOT_SET}}\" }} }}\n",
        gateway.endpoint.address, gateway.admin.address
    );
    directory.write("gateway.yaml", &file).await;
    for (arguments, told) in
        [(&["servers"][..], "ready"), (&["tools"], "one__echo"), (&["call", "one__echo"], "one echoes")]
    {
        let ended = directory.run(arguments).await;
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(ended.stdout.contains(told), "{arguments:?}: {}", ended.stdout);
    }
    directory.write("any.yaml", "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0").await;
    for (arguments, option) in [(["servers", "-c"], "--admin"), (["tools", "-c"], "--admin")] {
        let ended = directory.run(&[&arguments[..], &["any.yaml"]].concat()).await;
        assert!(ended.code() == 1 && ended.stderr.contains(option), "{arguments:?}: {}", ended.stderr);
    }
    let ended = directory.run(&["call", "one__echo", "-c", "any.yaml"]).await;
    assert!(ended.code() == 1 && ended.stderr.contains("--url"), "{}", ended.stderr);
    let ended = directory.run(&["call", "one__echo", "-c", "missing.yaml"]).await;
    assert!(ended.stderr.contains("missing.yaml") && ended.stderr.contains("--url"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_option_that_a_command_has_no_use_for_is_refused() {
    let directory = Directory::new().await;
    for arguments in [
        &["servers", "--url", "http://127.0.0.1:1/mcp"][..],
        &["tools", "--url", "http://127.0.0.1:1/mcp"],
        &["call", "x", "--admin", "http://127.0.0.1:1"],
        &["tools", "--admin", "http://127.0.0.1:1", "-c", "gateway.yaml"],
    ] {
        let ended = directory.run(arguments).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn call_says_why_no_session_was_opened() {
    let directory = Directory::new().await;
    let modern = gateway().config(&format!("revisions: [{STATELESS}]")).start().await;
    let ended = directory.run(&["call", "x", "--url", &url(&modern)]).await;
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("initialize: no revision with a handshake"), "{}", ended.stderr);
    let elsewhere = format!("{}/elsewhere", admin(&modern));
    let ended = directory.run(&["call", "x", "--url", &elsewhere]).await;
    assert!(ended.code() == 1 && ended.stderr.contains("404"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_a_server_wrote_does_not_act_on_a_terminal() {
    const FOREIGN: &str = "red \u{1b}[31m title \u{1b}]0;x\u{7} c1 \u{9b}2J";
    let directory = Directory::new().await;
    let one = http_upstream("one")
        .on("tools/list", |mut call| async move {
            let schema = json!({ "type": "object" });
            let tool = json!({ "name": "echo", "description": FOREIGN, "inputSchema": schema });
            call.result(json!({ "tools": [tool] })).await;
        })
        .on("tools/call", |mut call| async move { call.text(FOREIGN).await })
        .start()
        .await;
    let gateway = gateway().with("one", &one).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    let tools = directory.run(&["tools", "--admin", &admin(&gateway)]).await;
    assert!(tools.stdout.contains("red �[31m title"), "{}", tools.stdout);
    let acts = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(!acts(&tools.stdout), "{:?}", tools.stdout);
    let tools = directory.run(&["tools", "--json", "--admin", &admin(&gateway)]).await;
    assert!(!acts(&tools.stdout), "{:?}", tools.stdout);
    let rows: Value = serde_json::from_str(&tools.stdout).expect("JSON");
    assert_eq!(rows[0]["description"], FOREIGN, "programs get what was written");
    let called = directory.run(&["call", "one__echo", "--url", &url(&gateway)]).await;
    assert_eq!(called.stdout, format!("{FOREIGN}\n"), "so does what reads a pipe");
}

#[tokio::test]
async fn tools_shows_what_the_endpoint_of_a_profile_shows() {
    let directory = Directory::new().await;
    let (one, two) = (http_upstream("one").start().await, http_upstream("two").start().await);
    let plan = gateway().with("one", &one).with("two", &two);
    let gateway = plan.config("profiles: { half: { servers: [two] } }").start().await;
    gateway.stateless().until_tools(&["one__echo", "two__echo"]).await;
    let admin = admin(&gateway);
    let half = eventually("the profile's tools", || async {
        let half = directory.run(&["tools", "--profile", "half", "--admin", &admin]).await;
        half.stdout.contains("two__echo").then_some(half.stdout)
    })
    .await;
    assert!(!half.contains("one__echo"), "{half}");
    for (unknown, why) in [("other", "404"), ("a b", "name of a profile")] {
        let ended = directory.run(&["tools", "--profile", unknown, "--admin", &admin]).await;
        assert!(ended.code() == 1 && ended.stderr.contains(why), "{}", ended.stderr);
    }
}
