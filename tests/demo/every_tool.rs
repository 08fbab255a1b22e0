//! Every feature of the demo set, in every revision over both transports.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::protocol::era::{REVISIONS, Revision};

use crate::client::{Client, text_of};

async fn every_feature(revision: Revision, over_http: bool, pinned: bool) {
    let arguments: &[&str] = if pinned { &["--protocol", revision.text()] } else { &[] };
    let mut client = Client::meet(revision, over_http, arguments).await;
    lists(&mut client).await;
    plain_tools(&mut client).await;
    contents(&mut client).await;
    asking(&mut client).await;
    logging(&mut client).await;
    prompts_and_resources(&mut client).await;
    changing(&mut client).await;
    failing(&mut client).await;
}

macro_rules! stories {
    ($($name:ident: $revision:expr, $over_http:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            for pinned in [false, true] {
                every_feature($revision, $over_http, pinned).await;
            }
        }
    )*};
}

stories! {
    every_feature_in_2024_11_05_over_stdio: REVISIONS[0], false;
    every_feature_in_2024_11_05_over_http: REVISIONS[0], true;
    every_feature_in_2025_03_26_over_stdio: REVISIONS[1], false;
    every_feature_in_2025_03_26_over_http: REVISIONS[1], true;
    every_feature_in_2025_06_18_over_stdio: REVISIONS[2], false;
    every_feature_in_2025_06_18_over_http: REVISIONS[2], true;
    every_feature_in_2025_11_25_over_stdio: REVISIONS[3], false;
    every_feature_in_2025_11_25_over_http: REVISIONS[3], true;
    every_feature_in_2026_07_28_over_stdio: REVISIONS[4], false;
    every_feature_in_2026_07_28_over_http: REVISIONS[4], true;
}

async fn lists(client: &mut Client) {
    let tools = client.request("tools/list", json!({})).await.unwrap();
    let tools = tools["tools"].as_array().unwrap().clone();
    assert_eq!(tools.len(), 32);
    for tool in &tools {
        let titled = client.revision >= Revision::V2025_06_18;
        assert_eq!(tool.get("title").is_some(), titled, "{tool}");
        assert_eq!(tool.get("annotations").is_some(), client.revision >= Revision::V2025_03_26, "{tool}");
    }
    for (method, key, count) in [
        ("prompts/list", "prompts", 3),
        ("resources/list", "resources", 3),
        ("resources/templates/list", "resourceTemplates", 1),
    ] {
        let listed = client.request(method, json!({})).await.unwrap();
        assert_eq!(listed[key].as_array().unwrap().len(), count, "{method}");
    }
}

async fn plain_tools(client: &mut Client) {
    let said = client.call("echo", json!({"text": "grüß dich"})).await;
    assert_eq!(text_of(&said), "grüß dich");
    let sum = client.call("add", json!({"a": 2, "b": 3.5})).await;
    assert_eq!(text_of(&sum), r#"{"sum":5.5}"#);
    let structured = client.revision >= Revision::V2025_06_18;
    assert_eq!(sum.get("structuredContent").cloned(), structured.then(|| json!({"sum": 5.5})));
    assert_eq!(text_of(&client.call("big", json!({"size": 100_000})).await).len(), 100_000);
    let who: Value = serde_json::from_str(text_of(&client.call("whoami", json!({})).await)).unwrap();
    assert_eq!(who["revision"], client.revision.text());
    assert_eq!(who["client"]["name"], "test");
    assert_eq!(who["capabilities"], client.capabilities);
    assert_eq!(who["session"], client.revision < Revision::V2026_07_28);
    let names = client.call("environment", json!({})).await;
    assert!(text_of(&names).contains("DEMO_TEST_SECRET") && !text_of(&names).contains("never-shown"));
    client.noticed.clear();
    let slow =
        json!({"name": "slow", "arguments": {"seconds": 0.05, "steps": 5}, "_meta": {"progressToken": "p"}});
    client.request("tools/call", slow).await.unwrap();
    let progress: Vec<_> =
        client.noticed.iter().map(|it| it["params"]["progress"].as_i64().unwrap()).collect();
    assert_eq!(progress, [1, 2, 3, 4, 5]);
    assert!(client.noticed.iter().all(|it| it["params"]["progressToken"] == "p"));
}

async fn contents(client: &mut Client) {
    assert_eq!(client.call("image", json!({})).await["content"][0]["mimeType"], "image/png");
    let has_audio = client.revision >= Revision::V2025_03_26;
    let audio = client.call("audio", json!({})).await;
    assert_eq!(audio["content"][0]["type"], if has_audio { "audio" } else { "text" });
    let link = client.call("link", json!({})).await;
    let has_links = client.revision >= Revision::V2025_06_18;
    assert_eq!(link["content"][0]["type"], if has_links { "resource_link" } else { "text" });
    assert_eq!(client.call("embed", json!({})).await["content"][0]["resource"]["uri"], "demo://text");
}

async fn asking(client: &mut Client) {
    client.asked.clear();
    let asked = client.call("ask", json!({})).await;
    if client.revision >= Revision::V2025_06_18 {
        assert_eq!(text_of(&asked), "Hello, Ada!");
    } else {
        assert_eq!(asked["isError"], true);
        assert!(client.asked.is_empty(), "what was not declared is not asked");
    }
    let by_url = client.call("ask_url", json!({})).await;
    assert_eq!(by_url["isError"] == true, client.revision < Revision::V2025_11_25, "{by_url}");
    assert_eq!(text_of(&client.call("sample", json!({})).await), "Trains pass in the night");
    assert!(text_of(&client.call("roots", json!({})).await).contains("file:///work"));
    if client.revision >= Revision::V2025_06_18 {
        several_forms(client).await;
    }
    visit_first(client).await;
    assert_eq!(text_of(&client.call("not_yet", json!({})).await), "Now it is done");
}

async fn several_forms(client: &mut Client) {
    client.asked.clear();
    assert_eq!(text_of(&client.call("ask_both", json!({})).await), "Ada, who wants accept");
    assert_eq!(client.asked.len(), 2);
    client.asked.clear();
    assert_eq!(text_of(&client.call("interview", json!({})).await), "Ada, accept, accept");
    assert_eq!(client.asked.len(), 3);
    let prompt = client.request("prompts/get", json!({"name": "greet_you"})).await.unwrap();
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("Ada"));
}

async fn visit_first(client: &mut Client) {
    let call = || json!({"name": "visit_first", "arguments": {}});
    let outcome = client.request("tools/call", call()).await;
    match client.revision {
        Revision::V2026_07_28 => assert_eq!(text_of(&outcome.unwrap()), "The page was answered with accept"),
        Revision::V2025_11_25 => {
            let refusal = outcome.unwrap_err();
            let page = &refusal["data"]["elicitations"][0];
            assert_eq!((&refusal["code"], &page["mode"]), (&json!(-32042), &json!("url")));
            assert!(page["elicitationId"].is_string(), "{page}");
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            let visited = loop {
                match client.request("tools/call", call()).await {
                    Ok(visited) => break visited,
                    Err(_) => assert!(tokio::time::Instant::now() < deadline, "never visited"),
                }
            };
            assert_eq!(text_of(&visited), "The page was visited");
        }
        _ => assert_eq!(outcome.unwrap()["isError"], true),
    }
}

async fn logging(client: &mut Client) {
    if client.revision < Revision::V2026_07_28 {
        client.request("logging/setLevel", json!({"level": "warning"})).await.unwrap();
        assert!(client.request("logging/setLevel", json!({"level": "loud"})).await.is_err());
        client.request("ping", json!({})).await.unwrap();
    } else {
        client.call("log", json!({"level": "emergency", "text": "unheard"})).await;
        client.log_level = Some("warning");
    }
    client.noticed.clear();
    client.call("log", json!({"level": "info", "text": "too quiet"})).await;
    client.call("log", json!({"level": "error", "text": "loud enough"})).await;
    // The page of visit_first may still be told as visited.
    let logged = client.noticed.iter().filter(|it| it["method"] == "notifications/message");
    let heard: Vec<_> = logged.map(|it| &it["params"]["data"]).collect();
    assert_eq!(heard, ["loud enough"]);
    client.log_level = None;
}

async fn prompts_and_resources(client: &mut Client) {
    let greet = json!({"name": "greet", "arguments": {"name": "Grace"}});
    let prompt = client.request("prompts/get", greet).await.unwrap();
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("Grace"));
    assert!(client.request("prompts/get", json!({"name": "greet"})).await.is_err());
    client.request("prompts/get", json!({"name": "with_everything"})).await.unwrap();
    for uri in ["demo://text", "demo://binary", "demo://counter", "demo://item/7"] {
        let read = client.request("resources/read", json!({"uri": uri})).await.unwrap();
        assert_eq!(read["contents"][0]["uri"], uri);
    }
    let missing = client.request("resources/read", json!({"uri": "demo://nowhere"})).await.unwrap_err();
    let stateless = client.revision == Revision::V2026_07_28;
    assert_eq!(missing["code"], if stateless { -32602 } else { -32002 });
    assert_eq!(missing["data"]["uri"], "demo://nowhere");
    let prompt =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "A"}});
    let completed = client.request("completion/complete", prompt).await.unwrap();
    assert_eq!(completed["completion"]["values"], json!(["Ada", "Alan"]));
    let item = json!({
        "ref": {"type": "ref/resource", "uri": "demo://item/{id}"}, "argument": {"name": "id", "value": ""},
    });
    let completed = client.request("completion/complete", item).await.unwrap();
    assert_eq!(completed["completion"]["values"].as_array().unwrap().len(), 100);
    assert_eq!(
        (&completed["completion"]["total"], &completed["completion"]["hasMore"]),
        (&json!(150), &json!(true))
    );
}

async fn changing(client: &mut Client) {
    client.call("change_tools", json!({})).await;
    assert_eq!(text_of(&client.call("extra", json!({})).await), "here for now");
    client.call("change_tools", json!({})).await;
    let gone = client.request("tools/call", json!({"name": "extra"})).await.unwrap_err();
    assert_eq!(gone["code"], -32602);
    client.call("touch", json!({})).await;
    let counter = client.request("resources/read", json!({"uri": "demo://counter"})).await.unwrap();
    assert_eq!(counter["contents"][0]["text"], r#"{"touches":1}"#);
    client.call("touch", json!({"uri": "demo://counter/last"})).await;
    let part = client.request("resources/read", json!({"uri": "demo://counter/last"})).await.unwrap();
    assert_eq!(part["contents"][0]["text"], r#"{"touches":1}"#);
}

async fn failing(client: &mut Client) {
    let failed = client.call("fail", json!({"text": "out of rails"})).await;
    assert_eq!((&failed["isError"], text_of(&failed)), (&json!(true), "out of rails"));
    let crashed = client.request("tools/call", json!({"name": "crash", "arguments": {"code": -31999}})).await;
    assert_eq!(crashed.unwrap_err()["code"], -31999);
    let wrong = client.call("echo", json!({"text": 7})).await;
    assert_eq!(wrong["isError"], true);
    let malformed = client.request("tools/call", json!({"name": "echo", "arguments": [1]})).await;
    assert_eq!(malformed.unwrap_err()["code"], -32602);
    let unknown = client.request("no/such/method", json!({})).await.unwrap_err();
    assert_eq!(unknown["code"], -32601);
    let counted: Value = serde_json::from_str(text_of(&client.call("counters", json!({})).await)).unwrap();
    assert!(counted["calls"].as_u64().unwrap() > 10);
}
