//! Whom an upstream asked to visit which page, on one connection (S-ELIC-08).
//!
//! Always: bounded; only those who were shown a page hear that it was completed. Not here: by which identifier they know
//! it, and whether they still wait for it (`session::elicitations`).

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};

use super::call::{Client, ClientPort};
use super::error::UpstreamError;
use super::link::Link;
use super::messages::TellClient;
use crate::protocol::code::URL_ELICITATION_REQUIRED;
use crate::protocol::frame::{Answer, Notification};
use crate::protocol::json::{Limits, Object, elements};

/// Pages remembered; the oldest go first.
const KEPT: usize = 256;
/// As `protocol::translate::question` passes them on.
const LONGEST_ID: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Pages {
    open: VecDeque<(String, ClientPort)>,
}

impl Pages {
    /// A client is shown the page that these parameters of an elicitation are about.
    pub(super) fn shown(&mut self, elicitation: &Object, to: &ClientPort) {
        let id = elicitation.text("elicitationId").filter(|id| id.len() <= LONGEST_ID);
        let Some(id) = id else { return };
        if self.open.len() >= KEPT {
            self.open.pop_front();
        }
        self.open.push_back((id.into_owned(), to.clone()));
    }

    /// The same for the pages that an error `-32042` names.
    fn required(&mut self, error: &Object, of: &ClientPort) {
        let data = error.object("data");
        let pages = data.and_then(|data| elements(&data.share("elicitations")?, Limits::NONE).ok());
        for page in pages.unwrap_or_default() {
            if let Ok(page) = Object::parse(page, Limits::NONE) {
                self.shown(&page, of);
            }
        }
    }

    /// The page was completed: to be told to these.
    fn completed(&mut self, params: &Object) -> Vec<ClientPort> {
        let Some(id) = params.text("elicitationId") else { return Vec::new() };
        let (over, open): (VecDeque<_>, _) = self.open.drain(..).partition(|(page, _)| *page == id);
        self.open = open;
        over.into_iter().map(|(_, port)| port).collect()
    }
}

impl Link {
    pub(super) fn lock_pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that waits for pages will be told so, and its caller when they are completed.
    pub(super) fn note_required_pages(&self, answered: &Result<Answer, UpstreamError>, caller: &Client) {
        if let (Ok(Answer::Error(error)), Some(port)) = (answered, &caller.port)
            && error.code == URL_ELICITATION_REQUIRED
        {
            self.lock_pages().required(&error.object, port);
        }
    }

    /// Tells those who were shown the page. A link of one session may be younger than the page; that session knows.
    pub(super) fn page_completed(&self, notification: &Notification) {
        let shown_to = self.lock_pages().completed(&notification.params);
        let news = || TellClient {
            upstream: self.upstream.clone(),
            in_loggers: false,
            notification: notification.clone(),
        };
        if let (true, Some(port)) = (shown_to.is_empty(), &self.client.port)
            && port.tell.try_send(news()).is_err()
        {
            tracing::debug!(upstream = %self.upstream, "the session did not take that a page was completed");
        }
        for port in shown_to {
            // However full the mailbox is: a page is completed once, and pages are counted.
            port.tell.do_send(news());
        }
    }
}
