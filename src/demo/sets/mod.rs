//! The features to serve: a set for people and tests, and the set that the official conformance suite expects.

mod conformance;
mod conformance_prompts;
mod conformance_tasks;
mod conformance_tools;
mod define;
mod demo;
mod demo_asking;
mod demo_prompts;
mod demo_tasks;
mod demo_tools;

use serde_json::Value;

use super::call::{Call, Stop};
use super::server::Server;
use super::wire::Object;

/// Which features the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FeatureSet {
    /// One tool for every feature of the protocol.
    Demo,
    /// What the official conformance suite calls.
    Conformance,
}

impl FeatureSet {
    /// Every tool, the one that comes and goes last.
    pub(crate) fn define_tools(self) -> Vec<Value> {
        match self {
            FeatureSet::Demo => demo::tools(),
            FeatureSet::Conformance => conformance::tools(),
        }
    }

    pub(crate) async fn call_tool(self, call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
        match self {
            FeatureSet::Demo => demo::call_tool(call, name, arguments).await,
            FeatureSet::Conformance => conformance_tools::call_tool(call, name, arguments).await,
        }
    }

    /// Whether the tool's work goes on though its task was cancelled.
    pub(crate) fn ignores_cancel(self, tool: &str) -> bool {
        self == FeatureSet::Demo && demo_tasks::ignores_cancel(tool)
    }

    /// Whether the server makes no task of this call, where that is for the server to decide.
    pub(crate) fn answers_at_once(self, tool: &str, arguments: &Object) -> bool {
        self == FeatureSet::Demo && demo_tasks::answers_at_once(tool, arguments)
    }

    /// What a tool asks before there is a task: the arguments with the answers.
    pub(crate) async fn before_task(
        self,
        call: &Call,
        tool: &str,
        arguments: &Object,
    ) -> Result<Object, Stop> {
        match self {
            FeatureSet::Demo => Ok(arguments.clone()),
            FeatureSet::Conformance => conformance_tasks::before_task(call, tool, arguments).await,
        }
    }

    /// Every prompt, the one that comes and goes last, if there is one.
    pub(crate) fn define_prompts(self) -> Vec<Value> {
        match self {
            FeatureSet::Demo => demo_prompts::prompts(),
            FeatureSet::Conformance => conformance_prompts::prompts(),
        }
    }

    pub(crate) async fn get_prompt(self, call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
        match self {
            FeatureSet::Demo if name == "greet_you" => demo_asking::greet_you(call).await,
            FeatureSet::Demo => Ok(demo_prompts::get(name, arguments)),
            FeatureSet::Conformance => conformance_prompts::get(call, name, arguments).await,
        }
    }

    pub(crate) fn resources(self) -> Vec<Value> {
        match self {
            FeatureSet::Demo => demo_prompts::resources(),
            FeatureSet::Conformance => conformance_prompts::resources(),
        }
    }

    pub(crate) fn templates(self) -> Vec<Value> {
        match self {
            FeatureSet::Demo => demo_prompts::templates(),
            FeatureSet::Conformance => conformance_prompts::templates(),
        }
    }

    /// What the resource holds, if there is one.
    pub(crate) fn read(self, server: &Server, uri: &str) -> Option<Value> {
        match self {
            FeatureSet::Demo => demo_prompts::read(server, uri),
            FeatureSet::Conformance => conformance_prompts::read(uri),
        }
    }

    /// Whether changes of the resource can be told.
    pub(crate) fn can_subscribe(self, server: &Server, uri: &str) -> bool {
        self.read(server, uri).is_some()
    }

    /// Choices for an argument of a prompt or template, if there is such an argument.
    pub(crate) fn completions(self, server: &Server, target: &str, argument: &str) -> Option<Vec<String>> {
        match self {
            FeatureSet::Demo => demo_prompts::completions(target, argument),
            FeatureSet::Conformance => conformance_prompts::completions(server, target, argument),
        }
    }

    /// Whether prompts come and go.
    pub(crate) fn changes_prompts(self) -> bool {
        self == FeatureSet::Conformance
    }
}
