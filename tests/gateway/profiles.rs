//! Profiles: each is a server of its own (S-HTTPS-19).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{Gateway, HANDSHAKE, gateway, http_upstream};

async fn two_behind_one() -> (crate::support::Upstream, crate::support::Upstream, Gateway) {
    let one = http_upstream("one").tool("a").tool("b").tool("c").start().await;
    let two = http_upstream("two").start().await;
    let profiles = r#"
profiles:
  half: { servers: [one] }
  few: { servers: [one, two], tools: { allow: ["one__*"], deny: ["one__b"] } }
bounds: { page_size: 2 }
"#;
    let gateway = gateway().with("one", &one).with("two", &two).config(profiles).start().await;
    (one, two, gateway)
}

async fn all_tools(client: &Client) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
        let page = client.request("tools/list", params).await;
        names.extend(page.names("tools"));
        cursor = page.result()["nextCursor"].clone();
        if cursor.is_null() {
            return names;
        }
    }
}

#[tokio::test]
async fn s_https_19_each_profile_is_a_server_of_its_own() {
    let (_one, _two, gateway) = two_behind_one().await;
    let whole = gateway.handshake(HANDSHAKE).await;
    crate::support::eventually("both catalogues", || async {
        let names = all_tools(&whole).await;
        (names == ["one__echo", "one__a", "one__b", "one__c", "two__echo"]).then_some(())
    })
    .await;
    let half = Client::handshake(&gateway.endpoint.at("/mcp/half"), HANDSHAKE, json!({})).await;
    assert_eq!(all_tools(&half).await, ["one__echo", "one__a", "one__b", "one__c"]);
    let few = Client::handshake(&gateway.endpoint.at("/mcp/few"), HANDSHAKE, json!({})).await;
    assert_eq!(all_tools(&few).await, ["one__echo", "one__a", "one__c"]);
    let few_stateless = Client::stateless(&gateway.endpoint.at("/mcp/few"), json!({}));
    assert_eq!(all_tools(&few_stateless).await, ["one__echo", "one__a", "one__c"]);

    for (client, hidden) in [(&few, "one__b"), (&few, "two__echo"), (&half, "two__echo")] {
        let answer = client.call(hidden, json!({})).await;
        answer.expect_error(200, -32602);
        let unknown = client.call("one__nothing", json!({})).await;
        let told = |answer: &crate::support::client::Answer, name: &str| {
            answer.error().to_string().replace(name, "NAME")
        };
        assert_eq!(
            told(&answer, hidden),
            told(&unknown, "one__nothing"),
            "hidden and unknown look alike (S-TOOL-07)"
        );
    }
    few_stateless.call("one__b", json!({})).await.expect_error(200, -32602);
    assert_eq!(few.call("one__a", json!({})).await.text(), "one echoes {}");
    let cursor = whole.request("tools/list", json!({})).await.result()["nextCursor"].clone();
    half.request("tools/list", json!({ "cursor": cursor })).await.expect_error(200, -32602);
    let mut misplaced = half.clone();
    misplaced.endpoint = gateway.endpoint.clone();
    assert_eq!(misplaced.open("ping", json!({})).await.whole().await.status, 404);
    let nowhere = Client::silent(&gateway.endpoint.at("/mcp/none"), HANDSHAKE, json!({}));
    assert_eq!(nowhere.open("ping", json!({})).await.whole().await.status, 404);
}

#[tokio::test]
async fn s_https_19_prompts_and_resources_of_other_servers_are_not_in_a_profile() {
    let (_one, two, gateway) = two_behind_one().await;
    let whole = gateway.stateless();
    crate::support::eventually("both catalogues", || async {
        (all_tools(&whole).await.len() == 5).then_some(())
    })
    .await;
    let endpoint = gateway.endpoint.at("/mcp/half");
    let clients =
        [Client::handshake(&endpoint, HANDSHAKE, json!({})).await, Client::stateless(&endpoint, json!({}))];
    for client in clients {
        assert_eq!(client.until_listed("prompts", &["one__greet"]).await.names("prompts"), ["one__greet"]);
        assert_eq!(client.until_listed("resources", &["static"]).await.names("resources"), ["static"]);
        let templates = client.until_listed("resourceTemplates", &["item"]).await;
        assert_eq!(templates.names("resourceTemplates"), ["item"]);
        for (method, params) in [
            ("prompts/get", json!({ "name": "two__greet", "arguments": { "who": "x" } })),
            ("resources/read", json!({ "uri": "test://two/static" })),
            ("resources/read", json!({ "uri": "test://two/item/1" })),
            (
                "completion/complete",
                json!({ "ref": { "type": "ref/prompt", "name": "two__greet" }, "argument": { "name": "who", "value": "" } }),
            ),
        ] {
            let answer = client.request(method, params).await;
            // A server that is alone gets every URI (S-RES-04); what it makes of it is its own affair.
            let is_alone = method == "resources/read" && answer.raw.contains("one reads");
            assert!(is_alone || answer.json.get("error").is_some(), "{method}: {}", answer.raw);
        }
        client.request("resources/read", json!({ "uri": "test://one/static" })).await.result();
    }
    let listings = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    for received in two.ledger().iter().filter(|received| received.json.get("id").is_some()) {
        let method = received.method();
        let is_own = listings.contains(&method) || matches!(method, "initialize" | "server/discover");
        assert!(is_own, "the hidden server was asked: {}", received.raw);
    }
}
