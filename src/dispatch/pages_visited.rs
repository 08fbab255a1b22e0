//! Pages that a person agreed to visit during the rounds of one call.
//!
//! Always: nobody is asked twice to visit the same page in one call; whoever agreed hears, once, that the upstream asks for
//! it no longer (era-bridge §4.2). The stateless era has no identifiers of pages, so that they are made here, for the
//! handshake era's. Not here: by which identifier a client knows a page (`session::elicitations`).

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;

use super::request_state::handle;
use crate::names::UpstreamName;
use crate::protocol::frame::Notification;
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::splice::Edit;
use crate::upstream::call::ClientPort;
use crate::upstream::messages::TellClient;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct PagesVisited {
    /// Addresses that were agreed to.
    agreed: RefCell<Vec<String>>,
    /// Begins the identifiers of this call's pages.
    call: std::cell::OnceCell<Option<String>>,
}

impl PagesVisited {
    /// Whether this input request is about a page that was agreed to.
    pub(super) fn is_agreed_to(&self, entry: &[u8]) -> bool {
        let agreed = self.agreed.borrow();
        !agreed.is_empty() && address(entry).is_some_and(|address| agreed.contains(&address))
    }

    /// A person visits the page that this input request is about.
    pub(super) fn agreed_to(&self, entry: &[u8]) {
        let mut agreed = self.agreed.borrow_mut();
        if let Some(address) = address(entry)
            && !agreed.contains(&address)
        {
            agreed.push(address);
        }
    }

    /// The parameters of a question, with an identifier where it is about a page; `None` without random bits.
    pub(super) fn named(&self, params: Object) -> Option<Object> {
        if params.text("mode").as_deref() != Some("url") {
            return Some(params);
        }
        let id = self.identifier(&params.text("url")?)?;
        let mut text = Vec::with_capacity(params.as_bytes().len() + 64);
        Edit::of(&params).set_text("elicitationId", &id).write(&mut text);
        Object::parse(text.into(), Limits::NONE).ok()
    }

    /// Tells of the pages that are asked for no longer: those not among `requests`, or all.
    pub(super) async fn left_behind(
        &self,
        port: &ClientPort,
        upstream: &UpstreamName,
        requests: Option<&Object>,
    ) {
        if self.agreed.borrow().is_empty() {
            return;
        }
        let still: Vec<String> = requests
            .map(|requests| requests.iter().filter_map(|(_, entry)| address(entry)).collect())
            .unwrap_or_default();
        let (kept, left): (Vec<_>, Vec<_>) =
            self.agreed.take().into_iter().partition(|page| still.contains(page));
        self.agreed.replace(kept);
        for id in left.iter().filter_map(|page| self.identifier(page)) {
            let params = format!(r#"{{"elicitationId":{}}}"#, quote(&id));
            let Ok(params) = Object::parse(Bytes::from(params), Limits::NONE) else { continue };
            let notification = Notification { method: "notifications/elicitation/complete".into(), params };
            let upstream = upstream.clone();
            port.tell(TellClient { upstream, in_loggers: false, is_expected: true, notification });
        }
        if !left.is_empty() {
            // On the stream of the call, before its answer.
            port.settled().await;
        }
    }

    /// The same page of the same call has the same identifier.
    fn identifier(&self, address: &str) -> Option<String> {
        let call = self.call.get_or_init(handle).as_ref()?;
        let mut digest = crate::protocol::digest::Digest::default();
        digest.text(call).text(address);
        Some(digest.finish())
    }
}

/// The page that an input request is about.
fn address(entry: &[u8]) -> Option<String> {
    let entry = Object::parse(Bytes::copy_from_slice(entry), Limits::NONE).ok()?;
    let params = entry.object("params")?;
    (params.text("mode").as_deref() == Some("url")).then(|| params.text("url").map(Cow::into_owned))?
}
