//! `tools/call`.

use std::borrow::Cow;

use super::forward::{Arrived, Leg};
use super::wish::is_plain;
use super::{Call, Failure, Outcome, Switchboard};
use crate::catalog::fetch::fetch;
use crate::catalog::listing::ListKind;
use crate::names::{LocalName, UpstreamName};
use crate::protocol::code::{HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::param_headers::ParamHeaders;
use crate::protocol::splice::Edit;
use crate::protocol::task::TaskSupport;
use crate::telemetry::spans::Target;
use crate::upstream::call::TaskWish;
use crate::upstream::error::UpstreamError;
use crate::upstream::messages::{self, NewsKind, UpstreamNews};

impl Switchboard {
    /// Calls a tool by its public name.
    pub async fn call_tool(&self, call: &Call) -> Result<Outcome, Failure> {
        let name = call.params.text("name").ok_or(Failure::InvalidParams("name must be a string"))?;
        if call.params.get("arguments").is_some_and(|arguments| !arguments.starts_with(b"{")) {
            return Err(Failure::InvalidParams("arguments must be an object"));
        }
        let view = self.view_naming(&call.client, ListKind::Tools, &name).await?;
        let (upstream, local, item) = match view.resolve_tool(&name) {
            Some(route) => (route.upstream.clone(), route.local.clone(), Some(&*route.item)),
            None => match Box::pin(self.session_tool(call, &view, &name)).await? {
                Some(tool) => (tool.upstream, tool.local, None),
                None => return Err(self.missing(&view, ListKind::Tools, &name, Failure::UnknownTool)),
            },
        };
        let support = item.map_or(TaskSupport::Forbidden, |item| item.task_support);
        let task = match is_plain(&call.task, support) {
            true => None,
            false => self.wish(call, &upstream, support)?,
        };
        let aim = Aim { upstream: &upstream, local: &local, public: &name };
        let mut arrived = self.call_at(call, &aim, item.map(|item| &item.object), task).await?;
        if task.is_none()
            && let Arrived::Answer(answer @ Answer::Error(_)) = &arrived
            && let Some(wish) = self.wish_after(answer, call, &upstream)?
        {
            // Boxed: it is far from being the rule.
            let declared = self.call_at(call, &aim, item.map(|item| &item.object), Some(wish));
            arrived = Box::pin(declared).await?;
        }
        let answer = match arrived {
            Arrived::Answer(answer) => answer,
            Arrived::Task(created) => {
                let begun = self.begun(call, &aim, *created, view)?;
                return Box::pin(self.became_task(call, begun)).await;
            }
        };
        if matches!(&answer, Answer::Error(error) if matches!(error.code, INVALID_PARAMS | METHOD_NOT_FOUND | HEADER_MISMATCH))
        {
            self.doubt_tools_of(&upstream);
        }
        Ok(Outcome::Relayed { answer, upstream, view })
    }

    /// Calls a tool that is described by `tool`, as far as anything is known of it.
    async fn call_at(
        &self,
        call: &Call,
        aim: &Aim<'_>,
        tool: Option<&Object>,
        task: Option<TaskWish>,
    ) -> Result<Arrived, Failure> {
        match self.send(call, leg(call, aim, tool, task)).await {
            // Boxed: it is far from being the rule.
            Err(Failure::Upstream { error: UpstreamError::HeadersRefused, .. }) => {
                Box::pin(self.call_with_fresh_headers(call, aim, task)).await
            }
            arrived => arrived,
        }
    }

    /// The upstream refused the headers of a call unseen: perhaps its tool has other annotations than the catalogue knows.
    /// Its list is read again, and the call made once more (S-HTTPC-10).
    async fn call_with_fresh_headers(
        &self,
        call: &Call,
        aim: &Aim<'_>,
        task: Option<TaskWish>,
    ) -> Result<Arrived, Failure> {
        let name = aim.upstream;
        self.doubt_tools_of(name);
        let refused = || Failure::Upstream { upstream: name.clone(), error: UpstreamError::HeadersRefused };
        let upstream = self.upstreams.get(name).ok_or_else(refused)?;
        let page = |_, cursor| {
            let permit = self.policy.authorise(call.client.principal, name);
            upstream.list_page(permit, &call.client, Method::ListTools, cursor)
        };
        let listing = fetch(ListKind::Tools, self.session_tools.limits, &|_| Ok(()), page).await;
        let listing = listing.map_err(|_| refused())?;
        let tool = listing.items.iter().find(|item| item.local == *aim.local).ok_or_else(refused)?;
        self.send(call, leg(call, aim, Some(&tool.object), task)).await
    }

    /// Perhaps the upstream no longer has the tool: its own words pass on, and its list is looked at again (S-TOOL-14).
    fn doubt_tools_of(&self, upstream: &UpstreamName) {
        let kind = NewsKind::ListDoubtful(messages::ListKind::Tools);
        if self.news.try_send(UpstreamNews { upstream: upstream.clone(), kind }).is_err() {
            tracing::debug!("a doubt about a list was dropped");
        }
    }
}

/// Which tool is meant.
pub(super) struct Aim<'a> {
    pub(super) upstream: &'a UpstreamName,
    pub(super) local: &'a LocalName,
    pub(super) public: &'a str,
}

fn leg<'a>(call: &'a Call, aim: &Aim<'a>, tool: Option<&Object>, task: Option<TaskWish>) -> Leg<'a> {
    let mut params = Edit::of(&call.params);
    if aim.public != aim.local.as_str() {
        params.set_text("name", aim.local.as_str());
    }
    Leg {
        upstream: aim.upstream,
        method: Method::CallTool,
        params,
        local: Some(Cow::Borrowed(aim.local.as_str())),
        target: Target::Tool(aim.public),
        param_headers: tool.map(|tool| mirrored_parameters(tool, &call.params)).unwrap_or_default(),
        task,
    }
}

/// `Mcp-Param-*` for an annotated tool (S-HTTPC-10); an empty list costs a search for the annotation's name.
fn mirrored_parameters(
    tool: &Object,
    params: &Object,
) -> Vec<(http::header::HeaderName, http::header::HeaderValue)> {
    let headers = tool.get("inputSchema").and_then(|schema| ParamHeaders::of_schema(schema).ok());
    match headers.filter(|headers| !headers.is_empty()) {
        Some(headers) => headers.derive(&params.object("arguments").unwrap_or_else(Object::empty)),
        None => Vec::new(),
    }
}
