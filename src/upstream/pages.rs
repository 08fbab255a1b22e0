//! Whom an upstream asked to visit which page, on one connection (S-ELIC-08).
//!
//! Always: bounded; only those who were shown a page hear that it was completed; a page is noted as soon as the upstream
//! has named it, because it may be completed with the next word. Not here: by which identifier clients know it, and
//! whether they still wait for it (`session::elicitations`).

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::call::{Client, ClientPort};
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
    /// A client is to see the page that these parameters of an elicitation are about; gives its identifier.
    fn shown(&mut self, elicitation: &Object, to: &ClientPort) -> Option<String> {
        let id = elicitation.text("elicitationId").filter(|id| id.len() <= LONGEST_ID)?.into_owned();
        if self.open.len() >= KEPT {
            self.open.pop_front();
        }
        self.open.push_back((id.clone(), to.clone()));
        Some(id)
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

    /// One question less about this page.
    fn forget(&mut self, id: &str, of: &ClientPort) {
        let at = self.open.iter().rposition(|(page, port)| page == id && port.is(of));
        if let Some(at) = at {
            self.open.remove(at);
        }
    }

    /// The page was completed: to be told to these.
    fn completed(&mut self, params: &Object) -> Vec<ClientPort> {
        let Some(id) = params.text("elicitationId") else { return Vec::new() };
        let mut shown_to: Vec<ClientPort> = Vec::new();
        self.open.retain(|(page, port)| {
            let is_over = *page == id;
            if is_over && shown_to.iter().all(|other| !other.is(port)) {
                shown_to.push(port.clone());
            }
            !is_over
        });
        shown_to
    }
}

/// A page that a client is asked to visit; it hears no more of the page when this is dropped, unless it agreed.
pub(super) struct Proposed {
    link: Arc<Link>,
    port: ClientPort,
    /// None once it agreed.
    id: Option<String>,
}

impl Proposed {
    /// Notes the page that these parameters of an elicitation are about.
    pub(super) fn of(link: &Arc<Link>, elicitation: &Object, to: &ClientPort) -> Proposed {
        let id = link.lock_pages().shown(elicitation, to);
        Proposed { link: Arc::clone(link), port: to.clone(), id }
    }

    /// The client visits it.
    pub(super) fn is_agreed_to(&mut self) {
        self.id = None;
    }
}

impl Drop for Proposed {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.link.lock_pages().forget(id, &self.port);
        }
    }
}

impl Link {
    pub(super) fn lock_pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that waits for pages will be told so, and its caller when they are completed, which the upstream may say
    /// before the caller has looked at its answer.
    pub(super) fn note_required_pages(&self, answer: &Answer, caller: impl FnOnce() -> Option<Arc<Client>>) {
        if let Answer::Error(error) = answer
            && error.code == URL_ELICITATION_REQUIRED
            && let Some(port) = caller().and_then(|client| client.port.clone())
        {
            self.lock_pages().required(&error.object, &port);
        }
    }

    /// Tells those who were shown the page. A link of one session may be younger than the page; that session knows.
    pub(super) fn page_completed(&self, notification: &Notification) {
        let shown_to = self.lock_pages().completed(&notification.params);
        let news = |is_expected| TellClient {
            upstream: self.upstream.clone(),
            in_loggers: false,
            is_expected,
            notification: notification.clone(),
        };
        if let (true, Some(port)) = (shown_to.is_empty(), &self.client.port)
            && !port.tell(news(false))
        {
            tracing::debug!(upstream = %self.upstream, "the session did not take that a page was completed");
        }
        for port in shown_to {
            port.tell(news(true));
        }
    }
}
