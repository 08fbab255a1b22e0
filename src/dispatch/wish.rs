//! When a call may come back as a task of its upstream's (era-bridge §7.2 to §7.4).
//!
//! Always: a plain caller's call becomes one only where the tool cannot be had without; whoever can deal with a task gets one
//! where the upstream makes it. Not here: how a task is asked for (`upstream::task`), what becomes of it (`driven`).

use super::{Call, Failure, Switchboard, TaskUse};
use crate::catalog::listing::ListKind;
use crate::names::UpstreamName;
use crate::protocol::capability::includes;
use crate::protocol::code::MISSING_CAPABILITY;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::task::{Dialect, EXTENSION, TaskSupport};
use crate::upstream::call::TaskWish;
use crate::upstream::handle::UpstreamHandle;

/// A tool, for one who wishes its call to be a task.
#[derive(Debug)]
pub struct ToolForTask {
    /// Whose.
    pub upstream: UpstreamName,
    /// Its public name.
    pub public: String,
    /// As clients are told.
    pub support: TaskSupport,
    /// Whether its upstream, too, answers at once with a task.
    pub is_made_upstream: bool,
}

/// Whether this is the usual call, which is made without a thought of tasks.
pub(super) fn is_plain(task: &TaskUse, support: TaskSupport) -> bool {
    matches!(task, TaskUse::Plain | TaskUse::Unasked) && support != TaskSupport::Required
}

impl Switchboard {
    /// What a call of such a tool may come back as.
    pub(super) fn wish(
        &self,
        call: &Call,
        upstream: &UpstreamName,
        support: TaskSupport,
    ) -> Result<Option<TaskWish>, Failure> {
        let Some(dialect) = self.dialect_of(upstream) else { return Ok(None) };
        let wish = match (dialect, &call.task) {
            // One that makes tasks as it likes says so when it cannot do without.
            (Dialect::Extension, TaskUse::Plain | TaskUse::Unasked) => None,
            (Dialect::Extension, TaskUse::Offered | TaskUse::Owned(_)) => Some(TaskWish::default()),
            (Dialect::Core, _) if support == TaskSupport::Forbidden => None,
            (Dialect::Core, TaskUse::Unasked) => return Err(Failure::NeedsTask),
            (Dialect::Core, TaskUse::Plain) if !self.tasks.drive => return Err(Failure::NeedsTask),
            (Dialect::Core, TaskUse::Plain | TaskUse::Offered) => Some(self.usual_wish()),
            (Dialect::Core, TaskUse::Owned(sink)) => {
                Some(TaskWish { ttl_ms: sink.ttl_ms().or(self.usual_wish().ttl_ms) })
            }
        };
        Ok(wish)
    }

    /// What makes up for a call without a wish that was refused, unrun, because it declared nothing of tasks; `None` where that
    /// is not the reason.
    pub(super) fn wish_after(
        &self,
        answer: &Answer,
        call: &Call,
        upstream: &UpstreamName,
    ) -> Result<Option<TaskWish>, Failure> {
        if !names_tasks(answer) || self.dialect_of(upstream) != Some(Dialect::Extension) {
            return Ok(None);
        }
        match &call.task {
            TaskUse::Plain | TaskUse::Unasked if !self.tasks.drive => Err(Failure::NeedsTask),
            _ => Ok(Some(TaskWish::default())),
        }
    }

    /// How an upstream would make a task of a call. One of the stateless era decides anew with each request that declares the
    /// extension, whatever it said of itself (S-TX-15).
    fn dialect_of(&self, upstream: &UpstreamName) -> Option<Dialect> {
        let upstream = self.upstreams.get(upstream)?;
        match upstream.known_facts()?.revision.era() {
            Era::Stateless => Some(Dialect::Extension),
            Era::Handshake => upstream.tasks_offered().map(|offered| offered.dialect),
        }
    }

    /// The tool that a call with a wish for a task names, and whether its calls can be tasks at all, its upstream's or the
    /// gateway's (S-TASK-03).
    pub async fn tool_for_task(&self, call: &Call) -> Result<ToolForTask, Failure> {
        let name = call.params.text("name").ok_or(Failure::InvalidParams("name must be a string"))?;
        let view = self.view_naming(&call.client, ListKind::Tools, &name).await?;
        if let Some(route) = view.resolve_tool(&name) {
            let offered = self.upstreams.get(&route.upstream).and_then(UpstreamHandle::tasks_offered);
            let is_made_upstream = offered.is_some_and(|offered| offered.dialect == Dialect::Core)
                && route.item.task_support != TaskSupport::Forbidden;
            let (upstream, support) = (route.upstream.clone(), route.tasks);
            return Ok(ToolForTask { upstream, public: name.into_owned(), support, is_made_upstream });
        }
        match self.session_tool(call, &view, &name).await? {
            // Nobody was told that it can be one.
            Some(_) => Err(Failure::NoTask),
            None => Err(self.missing(&view, ListKind::Tools, &name, Failure::UnknownTool)),
        }
    }

    fn usual_wish(&self) -> TaskWish {
        TaskWish { ttl_ms: u64::try_from(self.tasks.ttl.as_millis()).ok() }
    }
}

/// Whether an upstream refuses a call because the extension of tasks was not declared, and for no other reason.
fn names_tasks(answer: &Answer) -> bool {
    let Answer::Error(error) = answer else { return false };
    if error.code != MISSING_CAPABILITY {
        return false;
    }
    let required = error.object.object("data").and_then(|data| data.object("requiredCapabilities"));
    let declared = format!(r#"{{"extensions":{{"{EXTENSION}":{{}}}}}}"#);
    let declared = Object::parse(declared.into(), crate::protocol::json::Limits::NONE);
    match (required, declared) {
        (Some(required), Ok(declared)) => !required.is_empty() && includes(&declared, &required),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::ErrorObject;
    use crate::protocol::json::Limits;

    #[test]
    fn s_tx_02_only_a_refusal_for_want_of_tasks_is_made_up_for() {
        let refusal = |code: i64, required: &str| {
            let text =
                format!(r#"{{"code":{code},"message":"m","data":{{"requiredCapabilities":{required}}}}}"#);
            let object = Object::parse(text.into(), Limits::NONE).expect("valid");
            names_tasks(&Answer::Error(ErrorObject { code, object }))
        };
        let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        assert!(refusal(-32021, tasks));
        assert!(!refusal(-32602, tasks));
        for other in [
            "{}",
            "7",
            r#"{"extensions":{"com.example/x":{}}}"#,
            r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
        ] {
            assert!(!refusal(-32021, other), "{other}");
        }
    }
}
