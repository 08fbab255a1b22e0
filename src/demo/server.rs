//! The server behind every transport: its settings, its features and what they have counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::hub::{Change, Hub};
use super::sealed::Seal;
use super::sets::FeatureSet;
use super::tasks::{self, Tasks};
use crate::protocol::era::{Era, REVISIONS, Revision};

/// What the server was started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The only revision served, if it is pinned.
    pub(crate) pinned: Option<Revision>,
    pub(crate) features: FeatureSet,
    /// Most items in one page of a list.
    pub(crate) page_size: usize,
}

/// One demo server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) seal: Seal,
    pub(crate) hub: Arc<Hub>,
    pub(crate) counted: Counted,
    pub(crate) tasks: Tasks,
    tools: Vec<Value>,
    prompts: Vec<Value>,
    /// A tool and a prompt that come and go.
    extra_tool: AtomicBool,
    extra_prompt: AtomicBool,
    /// How often each resource was touched.
    touches: Mutex<HashMap<String, u64>>,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) calls: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    /// How often somebody looked at a task.
    pub(crate) polls: AtomicU64,
    /// Calls that run now, tasks included.
    pub(crate) running: AtomicU64,
}

/// A call of a tool while it runs.
#[derive(Debug)]
pub(crate) struct Running(Arc<Server>);

impl Running {
    pub(crate) fn begin(server: &Arc<Server>) -> Running {
        server.counted.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(server))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counted.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    pub(crate) fn new(settings: Settings) -> Result<Arc<Self>, getrandom::Error> {
        Ok(Arc::new(Server {
            tools: settings.features.define_tools(),
            prompts: settings.features.define_prompts(),
            settings,
            seal: Seal::new()?,
            hub: Arc::default(),
            counted: Counted::default(),
            tasks: Tasks::default(),
            extra_tool: AtomicBool::new(false),
            extra_prompt: AtomicBool::new(false),
            touches: Mutex::default(),
        }))
    }

    pub(crate) fn serves(&self, revision: Revision) -> bool {
        self.settings.pinned.is_none_or(|pinned| pinned == revision)
    }

    pub(crate) fn serves_era(&self, era: Era) -> bool {
        self.settings.pinned.is_none_or(|pinned| pinned.era() == era)
    }

    /// Revisions served, newest first.
    pub(crate) fn revisions(&self) -> Vec<&'static str> {
        REVISIONS.into_iter().rev().filter(|revision| self.serves(*revision)).map(Revision::text).collect()
    }

    /// Newest handshake revision served.
    pub(crate) fn newest_handshake(&self) -> Revision {
        self.settings.pinned.unwrap_or(crate::protocol::era::NEWEST_HANDSHAKE)
    }

    pub(crate) fn capabilities(&self, revision: Revision) -> Value {
        let mut capabilities = json!({
            "tools": { "listChanged": true },
            "prompts": {},
            "resources": { "subscribe": true },
            "logging": {},
        });
        if self.settings.features.changes_prompts() {
            capabilities["prompts"] = json!({ "listChanged": true });
        }
        if revision >= Revision::V2025_03_26 {
            capabilities["completions"] = json!({});
        }
        match revision {
            Revision::V2025_11_25 => {
                capabilities["tasks"] =
                    json!({ "list": {}, "cancel": {}, "requests": { "tools": { "call": {} } } });
            }
            Revision::V2026_07_28 => {
                capabilities["extensions"] = json!({ tasks::extension::EXTENSION: {} });
            }
            _ => {}
        }
        capabilities
    }

    /// The tools that are there now.
    pub(crate) fn tools(&self) -> &[Value] {
        let hidden = usize::from(!self.extra_tool.load(Ordering::Relaxed));
        &self.tools[..self.tools.len() - hidden]
    }

    /// The prompts that are there now.
    pub(crate) fn prompts(&self) -> &[Value] {
        let comes_and_goes = self.settings.features.changes_prompts();
        let hidden = usize::from(comes_and_goes && !self.extra_prompt.load(Ordering::Relaxed));
        &self.prompts[..self.prompts.len() - hidden]
    }

    /// Adds or removes the extra tool and says so; true if it is there now.
    pub(crate) fn toggle_extra_tool(&self) -> bool {
        let there = !self.extra_tool.fetch_xor(true, Ordering::Relaxed);
        self.hub.announce(&Change::Tools);
        there
    }

    /// Adds or removes the extra prompt and says so; true if it is there now.
    pub(crate) fn toggle_extra_prompt(&self) -> bool {
        let there = !self.extra_prompt.fetch_xor(true, Ordering::Relaxed);
        self.hub.announce(&Change::Prompts);
        there
    }

    /// Counts a change of a known resource and tells its subscribers.
    pub(crate) fn touch(&self, uri: &str) -> u64 {
        let mut touches = self.touches.lock().unwrap_or_else(PoisonError::into_inner);
        let count = touches.entry(uri.to_owned()).or_default();
        *count += 1;
        let count = *count;
        drop(touches);
        self.hub.announce(&Change::Resource(uri.to_owned()));
        count
    }

    pub(crate) fn touches(&self, uri: &str) -> u64 {
        self.touches.lock().unwrap_or_else(PoisonError::into_inner).get(uri).copied().unwrap_or_default()
    }
}

/// Who this server says it is.
pub(crate) fn identity(revision: Revision) -> Value {
    let mut identity = json!({ "name": "switchyard-demo", "version": env!("CARGO_PKG_VERSION") });
    if revision >= Revision::V2025_06_18 {
        identity["title"] = json!("Switchyard demo server");
    }
    if revision >= Revision::V2025_11_25 {
        identity["description"] = json!("One tool for every feature of the protocol");
    }
    identity
}

/// What a client is told to do with this server.
pub(crate) const INSTRUCTIONS: &str =
    "A server to try things out with. Call echo first; whoami tells what the server knows of its caller.";
