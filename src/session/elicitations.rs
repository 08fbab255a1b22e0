//! Pages that this session's person was asked to visit, by the identifier each hop knows (S-ELIC-07, S-ELIC-08).
//!
//! Always: the client's identifier cannot be guessed and belongs to this session alone; one upstream's identifiers mean
//! nothing when another says them; a page is over once, when it is completed, or when everybody who was asked to visit it
//! has declined or is no longer wanted. The table outlives calls and is bounded: what is shown to the client pushes old
//! pages out, what is not shown pushes out nothing. Not here: addresses, which are kept nowhere.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use crate::names::UpstreamName;
use crate::protocol::json::{Object, quote};
use crate::protocol::splice::Edit;
use crate::upstream::call::EventSink;

/// Pages of one upstream that are remembered; its oldest go first, and never those of another.
const KEPT: usize = 64;

/// Completions of one upstream that may come before their pages, and for how long they wait for them.
const EARLY: usize = 16;
const EARLY_FOR: Duration = Duration::from_secs(10);
/// Bytes of one of them.
const EARLY_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Elicitations {
    open: VecDeque<Page>,
    early: Vec<Early>,
}

/// What was said of a page that is on its way to the client.
#[derive(Debug)]
struct Early {
    upstream: UpstreamName,
    params: Object,
    since: Instant,
}

#[derive(Debug)]
struct Page {
    upstream: UpstreamName,
    original: String,
    minted: String,
    /// Of the call that caused it.
    stream: Option<EventSink>,
    /// Whether the client knows of it.
    shown: bool,
    /// Open questions that are about it.
    asked: usize,
    /// Whether somebody agreed to visit it: it may be completed whatever becomes of further questions.
    accepted: bool,
}

impl Elicitations {
    /// The identifier for the client; the same again while the page is open, because an upstream may name it in an error
    /// and ask for it afterwards. `None` when there are no random bits.
    pub(super) fn open(
        &mut self,
        upstream: &UpstreamName,
        original: &str,
        stream: Option<&EventSink>,
    ) -> Option<String> {
        let known = self.open.iter_mut().find(|page| page.is(upstream, original));
        if let Some(page) = known {
            page.stream = stream.cloned().or(page.stream.take());
            return Some(page.minted.clone());
        }
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).ok()?;
        let minted = URL_SAFE_NO_PAD.encode(bits);
        self.open.push_back(Page {
            upstream: upstream.clone(),
            original: original.to_owned(),
            minted: minted.clone(),
            stream: stream.cloned(),
            shown: false,
            asked: 0,
            accepted: false,
        });
        Some(minted)
    }

    /// How many pages there are: what [`Elicitations::forget_since`] goes back to.
    pub(super) fn mark(&self) -> usize {
        self.open.len()
    }

    /// Nothing that was opened since then is shown to anybody.
    pub(super) fn forget_since(&mut self, mark: usize) {
        self.open.truncate(mark);
    }

    /// What was opened is shown to the client: the oldest pages of this upstream beyond its share are forgotten.
    pub(super) fn shown(&mut self, upstream: &UpstreamName) {
        let own = self.open.iter().filter(|page| page.upstream == *upstream).count();
        let mut surplus = own.saturating_sub(KEPT);
        self.open.retain_mut(|page| {
            let is_own = page.upstream == *upstream;
            let goes = surplus > 0 && is_own;
            surplus -= usize::from(goes);
            page.shown |= is_own;
            !goes
        });
    }

    /// A question about this page is put to the client.
    pub(super) fn asked(&mut self, minted: &str) {
        if let Some(page) = self.find(minted) {
            page.asked += 1;
        }
    }

    /// The question about this page did not reach the client.
    pub(super) fn not_asked(&mut self, minted: &str) {
        match self.find(minted) {
            Some(page) if page.shown => page.asked = page.asked.saturating_sub(1),
            _ => self.declined(minted),
        }
    }

    /// The client agreed to visit it.
    pub(super) fn accepted(&mut self, minted: &str) {
        if let Some(page) = self.find(minted) {
            page.asked = page.asked.saturating_sub(1);
            page.accepted = true;
        }
    }

    /// One question about this page is over without anybody's visit.
    pub(super) fn declined(&mut self, minted: &str) {
        let Some(page) = self.find(minted) else { return };
        page.asked = page.asked.saturating_sub(1);
        if page.asked == 0 && !page.accepted {
            self.open.retain(|page| page.minted != minted);
        }
    }

    /// Keeps the completion of a page that is on its way to the client; what is too much is forgotten.
    pub(super) fn completed_early(&mut self, upstream: &UpstreamName, params: Object) {
        self.early.retain(|early| early.since.elapsed() < EARLY_FOR);
        let own = self.early.iter().filter(|early| early.upstream == *upstream).count();
        if own < EARLY && params.as_bytes().len() <= EARLY_BYTES {
            self.early.push(Early { upstream: upstream.clone(), params, since: Instant::now() });
        }
    }

    /// The completions that waited for pages which this upstream has by now.
    pub(super) fn told_early(&mut self, upstream: &UpstreamName) -> Vec<Object> {
        if self.early.is_empty() {
            return Vec::new();
        }
        let open = &self.open;
        let is_due = |early: &mut Early| {
            let id = early.params.text("elicitationId").unwrap_or_default();
            early.upstream == *upstream && open.iter().any(|page| page.is(upstream, &id))
        };
        let due = self.early.extract_if(.., is_due).filter(|early| early.since.elapsed() < EARLY_FOR);
        due.map(|early| early.params).collect()
    }

    fn find(&mut self, minted: &str) -> Option<&mut Page> {
        self.open.iter_mut().find(|page| page.minted == minted)
    }

    /// Parameters of the client's notification, once; `None` for what is unknown, over, or another upstream's.
    pub(super) fn completed(
        &mut self,
        upstream: &UpstreamName,
        params: &Object,
    ) -> Option<(Vec<u8>, Option<EventSink>)> {
        let original = params.text("elicitationId")?;
        let at = self.open.iter().position(|page| page.is(upstream, &original))?;
        let page = self.open.remove(at)?;
        let mut edit = Edit::of(params);
        edit.set("elicitationId", quote(&page.minted).into_bytes());
        let mut text = Vec::new();
        edit.write(&mut text);
        Some((text, page.stream))
    }
}

impl Page {
    fn is(&self, upstream: &UpstreamName, original: &str) -> bool {
        self.upstream == *upstream && self.original == original
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn complete(id: &str) -> Object {
        let text = format!(r#"{{"elicitationId":{},"_meta":{{"v/x":1}}}}"#, quote(id));
        Object::parse(Bytes::from(text), Limits::default()).expect("valid")
    }

    fn told(pages: &mut Elicitations, upstream: &UpstreamName, id: &str) -> Option<String> {
        pages.completed(upstream, &complete(id)).map(|(text, _)| String::from_utf8(text).expect("UTF-8"))
    }

    #[test]
    fn s_elic_08_a_page_is_completed_once_and_by_its_own_server() {
        let (one, two) = (UpstreamName::new("one"), UpstreamName::new("two"));
        let mut pages = Elicitations::default();
        let first = pages.open(&one, "same", None).expect("random bits");
        let second = pages.open(&two, "same", None).expect("random bits");
        assert!(first.len() >= 22 && first != second, "{first} {second}");
        assert_eq!(pages.open(&one, "same", None).as_ref(), Some(&first), "it is the same page");
        assert_eq!(told(&mut pages, &two, &first), None, "the client's identifier means nothing upstream");
        assert_eq!(told(&mut pages, &two, "other"), None);
        let expected = format!(r#"{{"elicitationId":"{first}","_meta":{{"v/x":1}}}}"#);
        assert_eq!(told(&mut pages, &one, "same"), Some(expected));
        assert_eq!(told(&mut pages, &one, "same"), None, "once");
        pages.declined(&second);
        assert_eq!(told(&mut pages, &two, "same"), None, "it was declined");
    }

    #[test]
    fn s_elic_08_a_completion_that_overtakes_its_page_waits_for_it() {
        let (one, two) = (UpstreamName::new("one"), UpstreamName::new("two"));
        let mut pages = Elicitations::default();
        for upstream in [&one, &two] {
            for _ in 0..=EARLY {
                pages.completed_early(upstream, complete("a"));
            }
            pages.completed_early(upstream, complete("b"));
        }
        assert_eq!(pages.early.len(), 2 * EARLY);
        assert!(pages.told_early(&one).is_empty(), "nobody knows of the page");
        pages.open(&one, "a", None).expect("random bits");
        assert_eq!(pages.told_early(&one).len(), EARLY);
        assert!(pages.told_early(&one).is_empty() && pages.told_early(&two).is_empty());
    }

    #[test]
    fn s_elic_08_the_oldest_pages_are_forgotten_first() {
        let (one, two) = (UpstreamName::new("one"), UpstreamName::new("two"));
        let mut pages = Elicitations::default();
        pages.open(&two, "0", None).expect("random bits");
        for page in 0..=KEPT {
            pages.open(&one, &page.to_string(), None).expect("random bits");
            pages.shown(&one);
        }
        assert_eq!(told(&mut pages, &one, "0"), None);
        assert!(told(&mut pages, &one, "1").is_some());
        assert!(told(&mut pages, &two, "0").is_some(), "those of another server stay");
    }

    #[test]
    fn s_elic_08_what_is_never_shown_pushes_no_page_out() {
        let one = UpstreamName::new("one");
        let mut pages = Elicitations::default();
        for page in 0..KEPT {
            pages.open(&one, &page.to_string(), None).expect("random bits");
            pages.shown(&one);
        }
        let mark = pages.mark();
        pages.open(&one, "refused", None).expect("random bits");
        pages.forget_since(mark);
        assert_eq!(told(&mut pages, &one, "refused"), None);
        assert!(told(&mut pages, &one, "0").is_some());
    }

    #[test]
    fn s_elic_08_a_page_is_open_for_as_long_as_one_question_about_it_is() {
        let one = UpstreamName::new("one");
        let mut pages = Elicitations::default();
        for (accepts, told_of_it) in [(Some(true), true), (Some(false), false), (None, true)] {
            let id = pages.open(&one, "same", None).expect("random bits");
            pages.asked(&id);
            pages.asked(&id);
            pages.declined(&id);
            match accepts {
                Some(true) => pages.accepted(&id),
                Some(false) => pages.declined(&id),
                None => {}
            }
            assert_eq!(told(&mut pages, &one, "same").is_some(), told_of_it, "{accepts:?}");
        }
        let id = pages.open(&one, "same", None).expect("random bits");
        pages.asked(&id);
        pages.asked(&id);
        pages.accepted(&id);
        pages.declined(&id);
        assert!(told(&mut pages, &one, "same").is_some(), "somebody is on the page");
    }
}
