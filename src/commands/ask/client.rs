//! A small MCP client of the handshake era, for one call.
//!
//! Always: what a gateway refuses is told in its own words, for each request. Not here: what is asked.

use anyhow::{Context as _, anyhow, bail};
use http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{LIMITS, target};
use crate::protocol::era::NEWEST_HANDSHAKE;
use crate::upstream::http::{self as client, AnswerBody, HttpAnswer, HttpTarget};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// One session with a gateway.
pub(super) struct Client {
    url: String,
    target: HttpTarget,
    /// Headers that the handshake brought.
    headers: Vec<(HeaderName, HeaderValue)>,
    last_id: u64,
}

#[derive(Serialize)]
struct Message<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

#[derive(Deserialize)]
struct Response {
    id: Option<u64>,
    /// Messages that have one are no responses.
    method: Option<String>,
    result: Option<Box<RawValue>>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialize {
    protocol_version: &'static str,
    capabilities: Capabilities,
    client_info: Implementation,
}

/// None: a command line has nobody to ask.
#[derive(Serialize)]
struct Capabilities {}

#[derive(Serialize)]
struct Implementation {
    name: &'static str,
    version: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
}

impl Client {
    /// Shakes hands.
    pub(super) async fn open(url: String) -> anyhow::Result<Client> {
        let target = target(&url)?;
        let mut client = Client { url, target, headers: Vec::new(), last_id: 0 };
        let params = Initialize {
            protocol_version: NEWEST_HANDSHAKE.text(),
            capabilities: Capabilities {},
            client_info: Implementation { name: "switchyard-call", version: env!("CARGO_PKG_VERSION") },
        };
        let (session, result) = client.exchange("initialize", params).await.context("initialize")?;
        let agreed: Initialized = serde_json::from_str(result.get()).context("initialize")?;
        client.headers.extend(session.map(|session| (SESSION, session)));
        client.headers.push((VERSION, HeaderValue::try_from(agreed.protocol_version).context("initialize")?));
        let initialized =
            Message::<()> { jsonrpc: "2.0", id: None, method: "notifications/initialized", params: None };
        client.post(&initialized).await?;
        Ok(client)
    }

    /// Sends a request of the session and waits for its result.
    pub(super) async fn request(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> anyhow::Result<Box<RawValue>> {
        Ok(self.exchange(method, params).await?.1)
    }

    /// Ends the session. One that is not ended expires, so what comes of it matters to nobody.
    pub(super) async fn close(self) {
        let _ = client::delete(&self.target, &self.headers, LIMITS).await;
    }

    async fn exchange(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> anyhow::Result<(Option<HeaderValue>, Box<RawValue>)> {
        self.last_id += 1;
        let id = self.last_id;
        let request = Message { jsonrpc: "2.0", id: Some(id), method, params: Some(params) };
        let answer = self.post(&request).await?;
        let status = answer.status;
        let response = read_response(answer.body, id).await?;
        match response {
            Some(Response { error: Some(error), .. }) => bail!("{} ({})", error.message, error.code),
            Some(Response { result: Some(result), .. }) => Ok((answer.session, result)),
            _ => bail!("{} answered {status}, and nothing of MCP", self.url),
        }
    }

    async fn post(&self, message: &impl Serialize) -> anyhow::Result<HttpAnswer> {
        let body = serde_json::to_vec(message)?;
        let answer = client::post(&self.target, &self.headers, body.into(), LIMITS).await;
        answer.map_err(|failure| anyhow!("no gateway answers at {}: {failure}", self.url))
    }
}

/// The response to `id`; `None` where the answer holds none.
async fn read_response(body: AnswerBody, id: u64) -> anyhow::Result<Option<Response>> {
    match body {
        AnswerBody::Json(body) => Ok(serde_json::from_slice(&body).ok()),
        AnswerBody::Events(mut events) => {
            while let Some(event) = events.next().await {
                let Ok(message) = serde_json::from_slice::<Response>(&event?.data) else { continue };
                if message.id == Some(id) && message.method.is_none() {
                    return Ok(Some(message));
                }
            }
            bail!("the stream ended before the answer")
        }
        AnswerBody::Empty | AnswerBody::Other(_) => Ok(None),
    }
}
