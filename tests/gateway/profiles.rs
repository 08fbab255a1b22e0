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

    for hidden in ["one__b", "two__echo"] {
        let answer = few.call(hidden, json!({})).await;
        answer.expect_error(200, -32602);
        let unknown = few.call("one__nothing", json!({})).await;
        let told = |answer: &crate::support::client::Answer, name: &str| {
            answer.error().to_string().replace(name, "NAME")
        };
        assert_eq!(
            told(&answer, hidden),
            told(&unknown, "one__nothing"),
            "hidden and unknown look alike (S-TOOL-07)"
        );
    }
    let cursor = whole.request("tools/list", json!({})).await.result()["nextCursor"].clone();
    half.request("tools/list", json!({ "cursor": cursor })).await.expect_error(200, -32602);
    let mut misplaced = half.clone();
    misplaced.endpoint = gateway.endpoint.clone();
    assert_eq!(misplaced.open("ping", json!({})).await.whole().await.status, 404);
    let nowhere = Client::silent(&gateway.endpoint.at("/mcp/none"), HANDSHAKE, json!({}));
    assert_eq!(nowhere.open("ping", json!({})).await.whole().await.status, 404);
}
