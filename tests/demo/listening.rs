//! Being told of changes: listen streams and subscriptions.

use http::Method;
use serde_json::{Value, json};
use switchyard::protocol::era::Revision;

use crate::client::Client;
use crate::schema;
use crate::web::{Answer, send};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn listen(client: &Client, id: Value, filter: Value) -> Value {
    let params = client.complete(json!({"notifications": filter}));
    json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params})
}

async fn next(answer: &mut Answer) -> Value {
    let message = answer.message().await.expect("the stream ended");
    schema::check(Revision::V2026_07_28, &message, Some("subscriptions/listen"));
    message
}

#[tokio::test]
async fn s_sub_02_a_listen_stream_acknowledges_first_and_carries_only_what_was_asked() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    let asked = json!({
        "toolsListChanged": true, "promptsListChanged": true,
        "resourceSubscriptions": ["demo://counter", "demo://nowhere"],
    });
    let mut all = client.post(&listen(&client, json!("seven"), asked)).await;
    let mut none = client.post(&listen(&client, json!(7), json!({}))).await;
    let acknowledged = next(&mut all).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let honoured = json!({"toolsListChanged": true, "resourceSubscriptions": ["demo://counter"]});
    assert_eq!(acknowledged["params"]["notifications"], honoured);
    assert_eq!(next(&mut none).await["params"]["_meta"][SUBSCRIPTION], json!(7));
    client.call("change_tools", json!({})).await;
    client.call("touch", json!({"uri": "demo://text"})).await;
    client.call("touch", json!({})).await;
    assert_eq!(next(&mut all).await["method"], "notifications/tools/list_changed");
    let updated = next(&mut all).await;
    assert_eq!(
        (&updated["params"]["uri"], &updated["params"]["_meta"][SUBSCRIPTION]),
        (&json!("demo://counter"), &json!("seven"))
    );
    client.server.terminate();
    for (stream, id) in [(&mut all, json!("seven")), (&mut none, json!(7))] {
        let ended = next(stream).await;
        assert_eq!((&ended["id"], &ended["result"]["_meta"][SUBSCRIPTION]), (&id, &id));
        assert!(stream.message().await.is_none());
    }
    assert_eq!(client.server.exit_code().await, Some(0));
}

#[tokio::test]
async fn s_sub_08_over_stdio_a_listen_ends_by_notification_or_with_the_server() {
    let mut client = Client::meet(Revision::V2026_07_28, false, &[]).await;
    for id in ["a", "b"] {
        let message = listen(&client, json!(id), json!({"toolsListChanged": true}));
        client.server.write(&message.to_string()).await;
        assert_eq!(client.server.message().await["params"]["_meta"][SUBSCRIPTION], id);
    }
    client.notify("notifications/cancelled", json!({"requestId": "a"})).await;
    client.noticed.clear();
    client.call("change_tools", json!({})).await;
    client.call("echo", json!({"text": "after"})).await;
    let told: Vec<_> = client.noticed.iter().map(|it| &it["params"]["_meta"][SUBSCRIPTION]).collect();
    assert_eq!(told, ["b"]);
    client.server.input = None;
    let cancelled = client.server.message().await;
    assert_eq!(
        (&cancelled["method"], &cancelled["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!("b"))
    );
    assert_eq!(client.server.message().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn s_sub_01_a_listen_without_a_filter_is_refused() {
    for over_http in [false, true] {
        let mut client = Client::meet(Revision::V2026_07_28, over_http, &[]).await;
        let refused = client.request("subscriptions/listen", json!({})).await.unwrap_err();
        assert_eq!(refused["code"], -32602);
    }
}

#[tokio::test]
async fn s_res_06_a_session_hears_of_what_it_subscribed_to_until_it_unsubscribes() {
    let mut client = Client::meet(Revision::V2025_11_25, false, &[]).await;
    client.request("resources/subscribe", json!({"uri": "demo://counter"})).await.unwrap();
    let unknown = client.request("resources/subscribe", json!({"uri": "demo://nowhere"})).await.unwrap_err();
    assert_eq!(unknown["code"], -32002);
    client.call("touch", json!({})).await;
    client.call("touch", json!({"uri": "demo://text"})).await;
    client.request("resources/unsubscribe", json!({"uri": "demo://counter"})).await.unwrap();
    client.call("touch", json!({})).await;
    client.call("change_tools", json!({})).await;
    let told: Vec<_> = client.noticed.iter().map(|it| it["method"].as_str().unwrap()).collect();
    assert_eq!(told, ["notifications/resources/updated", "notifications/tools/list_changed"]);
}

#[tokio::test]
async fn s_https_11_a_session_has_one_standing_stream_for_what_no_request_asked_for() {
    let mut client = Client::meet(Revision::V2025_11_25, true, &[]).await;
    let (url, session) = (client.url().to_owned(), client.session().to_owned());
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
    client.call("change_tools", json!({})).await;
    let mut standing = send(Method::GET, &url, &headers, "").await;
    assert!(standing.is_stream());
    assert_eq!(send(Method::GET, &url, &headers, "").await.status, 409);
    client.call("change_tools", json!({})).await;
    for _ in 0..2 {
        let told = standing.message().await.unwrap();
        schema::check(Revision::V2025_11_25, &told, None);
        assert_eq!(told["method"], "notifications/tools/list_changed");
    }
}
