//! `prompts/get`.

use std::borrow::Cow;

use super::forward::Leg;
use super::{Call, Failure, Outcome, Switchboard};
use crate::catalog::listing::ListKind;
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::telemetry::spans::Target;

impl Switchboard {
    /// Gets a prompt by its public name.
    pub async fn get_prompt(&self, call: &Call) -> Result<Outcome, Failure> {
        let name = call.params.text("name").ok_or(Failure::InvalidParams("name must be a string"))?;
        if call.params.get("arguments").is_some_and(|arguments| !arguments.starts_with(b"{")) {
            return Err(Failure::InvalidParams("arguments must be an object"));
        }
        let view = self.view_naming(&call.client, ListKind::Prompts, &name).await?;
        let missing = || self.missing(&view, ListKind::Prompts, &name, Failure::UnknownPrompt);
        let route = view.resolve_prompt(&name).ok_or_else(missing)?;
        let mut params = Edit::of(&call.params);
        if *name != *route.local.as_str() {
            params.set_text("name", route.local.as_str());
        }
        let leg = Leg {
            upstream: &route.upstream,
            method: Method::GetPrompt,
            params,
            local: Some(Cow::Borrowed(route.local.as_str())),
            target: Target::Prompt(&name),
            param_headers: Vec::new(),
            task: None,
        };
        let answer = self.forward(call, leg).await?;
        Ok(Outcome::Relayed { answer, upstream: route.upstream.clone(), view: view.clone() })
    }
}
