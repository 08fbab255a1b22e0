//! How a task is shown in the words of the extension: one form for `tasks/get` and for `notifications/tasks` (S-TX-05,
//! S-TX-10).
//!
//! Always: a task that is over holds what its call would have been answered, in the caller's revision and with the URIs of
//! its endpoint (S-TX-13). Not here: whose task it is, and what belongs to the message around it.

use std::sync::Arc;

use bytes::Bytes;

use super::edge::Edge;
use super::exchange::Finished;
use super::initialize::server_info;
use super::respond::{self, Addressee};
use crate::dispatch::Outcome;
use crate::names::ProfileName;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, RequestId};
use crate::protocol::json::{Limits, Object};
use crate::protocol::task::{Dialect, Status};
use crate::protocol::translate::{ClientView, ResultKind};
use crate::tasks::{Ending, TaskView};

/// To whom tasks are shown.
pub(super) struct Viewer<'a> {
    pub(super) edge: &'a Edge,
    pub(super) profile: Option<&'a ProfileName>,
    pub(super) revision: Revision,
    /// What the request declared that looks.
    pub(super) capabilities: &'a Object,
}

impl Viewer<'_> {
    /// The members of the task, without braces. `view` was read with its ending.
    pub(super) fn members(&self, view: &TaskView) -> Vec<u8> {
        let facts = view.facts(Dialect::Extension);
        let mut text = facts.members(Dialect::Extension).into_bytes();
        let mut add = |member: &str, raw: &[u8]| {
            text.extend_from_slice(format!(r#","{member}":"#).as_bytes());
            text.extend_from_slice(raw);
        };
        match facts.status {
            Status::InputRequired => add("inputRequests", view.requests.as_deref().unwrap_or(b"{}")),
            Status::Completed | Status::Failed => {
                if let Some((member, raw)) = view.ending.as_deref().and_then(|ending| self.ended(ending)) {
                    add(member, &raw);
                }
            }
            Status::Working | Status::Cancelled => {}
        }
        text
    }

    /// `result` or `error`, as the response to the call would have had it.
    fn ended(&self, ending: &Ending) -> Option<(&'static str, Bytes)> {
        let view =
            ClientView { revision: self.revision, server: Bytes::from_static(server_info().as_bytes()) };
        let to = Addressee {
            id: &RequestId::number(0),
            view: &view,
            kind: ResultKind::Call,
            declared: &|| self.capabilities.clone(),
        };
        let Finished::Response { text, .. } = self.answered(&to, ending)? else { return None };
        let response = Object::parse(text.into(), Limits::NONE).ok()?;
        ["result", "error"].into_iter().find_map(|member| Some((member, response.share(member)?)))
    }

    fn answered(&self, to: &Addressee<'_>, ending: &Ending) -> Option<Finished> {
        Some(match (&ending.answer, &ending.upstream) {
            (Answer::Result(result), None) => respond::result(to, result, None),
            (Answer::Error(error), None) => {
                let object = Bytes::copy_from_slice(error.object.as_bytes());
                respond::respond(to, Ok(Outcome::Refused(object)))
            }
            (answer, Some(upstream)) => {
                let profile = self.profile.map(ProfileName::as_str);
                let view = self.edge.switchboard.catalogue.view(profile)?;
                let (answer, upstream) = (answer.clone(), upstream.clone());
                respond::respond(to, Ok(Outcome::Relayed { answer, upstream, view: Arc::clone(&view) }))
            }
        })
    }
}
