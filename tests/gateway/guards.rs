//! Who may speak to the gateway at all: paths, Origin, Host, loopback (S-HTTPS-01 to -03).

use serde_json::json;

use crate::support::client::{Client, Whole};
use crate::support::gateway::refused;
use crate::support::http::Headers;
use crate::support::{HANDSHAKE, gateway};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn ping_with(client: &Client, change: impl FnOnce(&mut Headers)) -> Whole {
    let mut headers = client.headers("", &json!({}));
    change(&mut headers);
    client.endpoint.ask("POST", headers, PING.as_bytes()).await
}

#[tokio::test]
async fn s_https_01_one_path_and_only_its_verbs() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    for verb in ["PUT", "PATCH", "TRACE"] {
        let answer = gateway.endpoint.ask(verb, client.headers("", &json!({})), PING.as_bytes()).await;
        assert_eq!(answer.status, 405, "{verb}: {}", answer.body);
    }
    let options = gateway.endpoint.ask("OPTIONS", client.headers("", &json!({})), b"").await;
    assert!(options.status < 500, "{options:?}");
    let elsewhere =
        gateway.endpoint.at("/nowhere").ask("POST", client.headers("", &json!({})), PING.as_bytes()).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_https_02_a_foreign_origin_is_403_on_every_verb() {
    let gateway = gateway().config("origins: [\"https://app.example.com\"]").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let port = gateway.endpoint.address.port();
    let cases = [
        ("https://evil.example.com".to_owned(), 403),
        ("null".to_owned(), 403),
        ("http://localhost.evil.example.com".to_owned(), 403),
        ("http://127.0.0.1.evil.example.com".to_owned(), 403),
        ("https://app.example.com.evil.org".to_owned(), 403),
        ("http://app.example.com".to_owned(), 403),
        ("https://app.example.com".to_owned(), 200),
        (format!("http://localhost:{port}"), 200),
        ("http://localhost:1".to_owned(), 200),
        ("http://127.0.0.1".to_owned(), 200),
        ("http://[::1]:9999".to_owned(), 200),
    ];
    for (origin, status) in cases {
        let answer = ping_with(&client, |headers| headers.set("Origin", &origin)).await;
        assert_eq!(answer.status, status, "Origin {origin:?}: {}", answer.body);
    }
    let mut doubled = client.headers("", &json!({}));
    doubled.0.push(("Origin".to_owned(), "http://localhost".to_owned()));
    doubled.0.push(("Origin".to_owned(), "https://evil.example.com".to_owned()));
    let answer = gateway.endpoint.ask("POST", doubled, PING.as_bytes()).await;
    assert!((400..500).contains(&answer.status), "two origins: {answer:?}");
    for verb in ["GET", "DELETE", "OPTIONS"] {
        let mut headers = client.headers("", &json!({}));
        headers.set("Origin", "https://evil.example.com");
        headers.set("Accept", "text/event-stream");
        let answer = gateway.endpoint.ask(verb, headers, b"").await;
        assert_eq!(answer.status, 403, "{verb}");
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
    assert_eq!(client.request("ping", json!({})).await.status, 200, "the session outlived all of it");
}

#[tokio::test]
async fn s_https_02_a_foreign_host_is_refused_on_both_listeners() {
    let gateway = gateway().config("hosts: [mcp.example.com]").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let port = gateway.endpoint.address.port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
        "localhost".to_owned(),
        "mcp.example.com".to_owned(),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Host", &host)).await;
        assert_eq!(answer.status, 200, "Host {host:?}: {}", answer.body);
    }
    for host in [
        "evil.example.com",
        "evil.example.com:80",
        "localhost.evil.example.com",
        "127.0.0.1.evil.example.com",
    ] {
        let answer = ping_with(&client, |headers| headers.set("Host", host)).await;
        assert!((400..500).contains(&answer.status), "Host {host:?}: {answer:?}");
        let mut headers = Headers::default();
        headers.set("Host", host);
        let admin = gateway.admin.at("/api/v1/servers").ask("GET", headers, b"").await;
        assert!((400..500).contains(&admin.status), "admin, Host {host:?}: {admin:?}");
    }
    let health = gateway.admin_get("/healthz").await;
    assert_eq!(health.status, 200);
}

#[tokio::test]
async fn s_https_02_preflight_answers_allowed_origins_alone() {
    let gateway = gateway().config("origins: [\"https://app.example.com\"]").start().await;
    let preflight = |origin: &'static str| {
        let mut headers = gateway.endpoint.post_headers();
        headers.remove("Content-Type");
        headers.set("Origin", origin);
        headers.set("Access-Control-Request-Method", "POST");
        headers.set("Access-Control-Request-Headers", "content-type, mcp-session-id, mcp-protocol-version");
        let endpoint = gateway.endpoint.clone();
        async move { endpoint.ask("OPTIONS", headers, b"").await }
    };
    let allowed = preflight("https://app.example.com").await;
    assert!((200..300).contains(&allowed.status), "{allowed:?}");
    assert_eq!(allowed.headers.get("access-control-allow-origin"), Some("https://app.example.com"));
    let may = allowed.headers.get("access-control-allow-headers").unwrap_or_default().to_ascii_lowercase();
    for header in ["content-type", "mcp-session-id", "mcp-protocol-version"] {
        assert!(may.contains(header), "{may:?}");
    }
    let foreign = preflight("https://evil.example.com").await;
    assert_eq!((foreign.status, foreign.headers.get("access-control-allow-origin")), (403, None));

    let client = gateway.handshake(HANDSHAKE).await;
    let answer = ping_with(&client, |headers| headers.set("Origin", "https://app.example.com")).await;
    assert_eq!(answer.headers.get("access-control-allow-origin"), Some("https://app.example.com"));
    let exposed =
        answer.headers.get("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    assert!(exposed.contains("mcp-session-id"), "{exposed:?}");
}

#[tokio::test]
async fn s_https_03_beyond_loopback_needs_authorization() {
    let started = gateway().start().await;
    assert!(started.endpoint.address.ip().is_loopback());
    assert!(started.admin.address.ip().is_loopback());
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        for (key, file) in [
            ("listen", format!("listen: \"{address}\"\nadmin: off\nservers: {{}}\n")),
            ("admin", format!("listen: 127.0.0.1:0\nadmin: \"{address}\"\nservers: {{}}\n")),
        ] {
            let ended = refused(&file).await;
            assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
            assert!(ended.stderr.contains(&format!("{key}: ")), "{ended:?}");
            assert!(ended.stderr.contains("loopback"), "{ended:?}");
        }
    }
}
