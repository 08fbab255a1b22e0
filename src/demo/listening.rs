//! `subscriptions/listen`: a request that stays open and carries what its client wants to hear of.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::call::{Call, Stop};
use super::hub::{Filter, SUBSCRIPTION_ID};
use super::outlet::Outlet;
use super::tasks;
use super::wire::{self, Fault, INTERNAL_ERROR, Object, object};

/// Stays open until the client leaves or the server ends it.
pub(crate) async fn listen(call: &Call, params: &Object) -> Result<Object, Stop> {
    let filter = read_filter(call, params)?;
    let Outlet::Pipe(pipe) = &call.outlet else {
        return Err(Fault::new(INTERNAL_ERROR, "no stream to listen on").into());
    };
    let listening = call.server.hub.listen(&call.id, filter, pipe).await?;
    listening.ended.cancelled().await;
    if !call.caller.over_http() {
        // Without a stream to close, the specification has the end of a subscription told twice: here and by the response.
        let params = json!({ "requestId": call.id, "_meta": { SUBSCRIPTION_ID: call.id } });
        call.outlet.send(wire::notification("notifications/cancelled", params)).await;
    }
    Ok(object(json!({ "_meta": { SUBSCRIPTION_ID: call.id } })))
}

/// The part of the filter that can be honoured.
fn read_filter(call: &Call, params: &Object) -> Result<Filter, Stop> {
    let asked = params
        .get("notifications")
        .and_then(Value::as_object)
        .ok_or_else(|| Fault::invalid_params("notifications is missing or not an object"))?;
    let flag = |key: &str| match asked.get(key) {
        None => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => Err(Fault::invalid_params(format!("notifications.{key} must be true or false"))),
    };
    let features = call.server.settings.features;
    let names = |key: &str| match asked.get(key) {
        None => Ok(HashSet::new()),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect::<HashSet<_>>())
        }
        Some(_) => Err(Fault::invalid_params(format!("notifications.{key} must be a list of strings"))),
    };
    if asked.contains_key("taskIds") {
        tasks::extension::require(call)?;
    }
    let uris = names("resourceSubscriptions")?;
    flag("resourcesListChanged")?;
    Ok(Filter {
        tools: flag("toolsListChanged")?,
        prompts: flag("promptsListChanged")? && features.changes_prompts(),
        resources: uris.into_iter().filter(|uri| features.can_subscribe(&call.server, uri)).collect(),
        tasks: names("taskIds")?.into_iter().filter(|id| call.server.tasks.has(&call.caller, id)).collect(),
    })
}
