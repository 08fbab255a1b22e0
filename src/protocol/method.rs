//! The methods the gateway knows: where each exists and which parameter names its target.

use super::era::Era;

/// A request method of the core protocol that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `initialize`
    Initialize,
    /// `ping`
    Ping,
    /// `server/discover`
    Discover,
    /// `tools/list`
    ListTools,
    /// `tools/call`
    CallTool,
    /// `prompts/list`
    ListPrompts,
    /// `prompts/get`
    GetPrompt,
    /// `resources/list`
    ListResources,
    /// `resources/templates/list`
    ListTemplates,
    /// `resources/read`
    ReadResource,
    /// `resources/subscribe`
    Subscribe,
    /// `resources/unsubscribe`
    Unsubscribe,
    /// `completion/complete`
    Complete,
    /// `logging/setLevel`
    SetLevel,
    /// `subscriptions/listen`
    Listen,
    /// `tasks/get`
    GetTask,
    /// `tasks/result`: core tasks alone
    TaskResult,
    /// `tasks/update`: the extension alone
    UpdateTask,
    /// `tasks/cancel`
    CancelTask,
    /// `tasks/list`: core tasks alone
    ListTasks,
}

struct Row {
    method: Method,
    name: &'static str,
    handshake: bool,
    stateless: bool,
    /// The parameter that `Mcp-Name` mirrors (S-HDR-01).
    target: Option<&'static str>,
}

const fn row(
    method: Method,
    name: &'static str,
    handshake: bool,
    stateless: bool,
    target: Option<&'static str>,
) -> Row {
    Row { method, name, handshake, stateless, target }
}

const ROWS: [Row; 20] = [
    row(Method::CallTool, "tools/call", true, true, Some("name")),
    row(Method::ListTools, "tools/list", true, true, None),
    row(Method::ReadResource, "resources/read", true, true, Some("uri")),
    row(Method::GetPrompt, "prompts/get", true, true, Some("name")),
    row(Method::Ping, "ping", true, false, None),
    row(Method::Complete, "completion/complete", true, true, None),
    row(Method::ListPrompts, "prompts/list", true, true, None),
    row(Method::ListResources, "resources/list", true, true, None),
    row(Method::ListTemplates, "resources/templates/list", true, true, None),
    row(Method::Initialize, "initialize", true, false, None),
    row(Method::Discover, "server/discover", false, true, None),
    row(Method::Subscribe, "resources/subscribe", true, false, None),
    row(Method::Unsubscribe, "resources/unsubscribe", true, false, None),
    row(Method::SetLevel, "logging/setLevel", true, false, None),
    row(Method::Listen, "subscriptions/listen", false, true, None),
    row(Method::GetTask, "tasks/get", true, true, Some("taskId")),
    row(Method::TaskResult, "tasks/result", true, false, Some("taskId")),
    row(Method::UpdateTask, "tasks/update", false, true, Some("taskId")),
    row(Method::CancelTask, "tasks/cancel", true, true, Some("taskId")),
    row(Method::ListTasks, "tasks/list", true, false, None),
];

impl Method {
    /// The method of that exact name, where the era has it.
    pub fn of(name: &str, era: Era) -> Option<Method> {
        let row = ROWS.iter().find(|row| row.name == name)?;
        let exists = match era {
            Era::Handshake => row.handshake,
            Era::Stateless => row.stateless,
        };
        exists.then_some(row.method)
    }

    fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.method == self).expect("every method has a row")
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether its result may ask for input, and its parameters bring some (S-MRTR-01, S-MRTR-12).
    pub fn takes_input(self) -> bool {
        matches!(self, Method::CallTool | Method::GetPrompt | Method::ReadResource)
    }

    /// Whether it is about a task (S-TASK-01, S-TX-08). Of the handshake era only 2025-11-25 has them.
    pub fn is_of_tasks(self) -> bool {
        matches!(
            self,
            Method::GetTask
                | Method::TaskResult
                | Method::UpdateTask
                | Method::CancelTask
                | Method::ListTasks
        )
    }

    /// The parameter that names its target: `name`, `uri` or `taskId`.
    pub fn target(self) -> Option<&'static str> {
        self.row().target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_life_15_each_era_has_its_own_methods() {
        assert_eq!(Method::of("ping", Era::Handshake), Some(Method::Ping));
        assert_eq!(Method::of("ping", Era::Stateless), None);
        assert_eq!(Method::of("server/discover", Era::Handshake), None);
        assert_eq!(Method::of("TOOLS/LIST", Era::Stateless), None);
        assert_eq!(Method::CallTool.target(), Some("name"));
    }
}
