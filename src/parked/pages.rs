//! Calls that a server refused until pages are visited (error `-32042`), and whose clients are asked to visit them
//! (era-bridge §4.4).
//!
//! Always: bounded, oldest first to go; nothing runs while they wait; a call is made again only after every page was agreed
//! to, and once for each time its client was asked (S-MRTR-07). Forgetting one costs a repetition: the call is made again and refused again. Not here: the error itself
//! (`protocol::translate::question`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::inputs::{Inputs, written};
use super::registry::Handle;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::protocol::json::{Limits, Object};
use crate::protocol::translate::question::{Expecting, Page, is_answer};

/// Calls that are remembered.
const KEPT: usize = 1_024;

/// See the module head.
#[derive(Debug)]
pub struct PagesToVisit {
    /// For how long a client may be away.
    patience: Duration,
    /// For how long its pages may take to be reported as completed after it agreed.
    wait: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    refused: VecDeque<Refused>,
    /// Those that were made again.
    made_again: VecDeque<(Handle, Principal)>,
}

impl Table {
    /// Says whether it may be made again, which it may once.
    fn makes_again(&mut self, handle: Handle, principal: Principal) -> bool {
        if self.made_again.contains(&(handle, principal)) {
            return false;
        }
        self.refused.retain(|refused| refused.handle != handle || refused.principal != principal);
        if self.made_again.len() >= KEPT {
            self.made_again.pop_front();
        }
        self.made_again.push_back((handle, principal));
        true
    }
}

/// One call.
#[derive(Debug, Clone)]
struct Refused {
    handle: Handle,
    principal: Principal,
    since: Instant,
    /// Hears of completed pages.
    inputs: Arc<Inputs>,
    pages: Arc<[Page]>,
}

/// What is to be done for a client that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// The call is made again.
    Again,
    /// These are asked still, as `inputRequests`.
    Asks(Bytes),
    /// The person did not agree.
    Declined,
    /// It was made again already.
    Lost,
    /// An answer does not have the shape of its question.
    Malformed,
}

impl PagesToVisit {
    /// Within these bounds.
    pub fn new(bounds: &Bounds) -> Self {
        PagesToVisit { patience: bounds.input_timeout, wait: bounds.pages_wait, table: Mutex::default() }
    }

    /// Remembers a call that was refused, and gives what its client is asked; `None` when there are no random bits.
    pub fn ask(
        &self,
        principal: Principal,
        inputs: &Arc<Inputs>,
        pages: Vec<Page>,
    ) -> Option<(Handle, Bytes)> {
        let handle = Handle::random()?;
        let now = Instant::now();
        let requests = requests(&pages, &|_| true);
        let refused =
            Refused { handle, principal, since: now, inputs: Arc::clone(inputs), pages: pages.into() };
        let mut table = self.lock();
        let table = &mut table.refused;
        while table.len() >= KEPT
            || table.front().is_some_and(|oldest| now.duration_since(oldest.since) > self.patience)
        {
            table.pop_front();
        }
        table.push_back(refused);
        Some((handle, requests))
    }

    /// A client came with answers; resolves when the call may be made again, at the latest after the wait for its pages.
    pub async fn answered(
        &self,
        handle: Handle,
        principal: Principal,
        responses: Option<&Object>,
    ) -> Awaited {
        let known = {
            let table = self.lock();
            let is_it = |refused: &&Refused| refused.handle == handle && refused.principal == principal;
            table.refused.iter().find(is_it).cloned()
        };
        let verdict = match &known {
            Some(refused) => verdict(&refused.pages, responses),
            None => if_forgotten(responses),
        };
        if verdict != Awaited::Again {
            return verdict;
        }
        if !self.lock().makes_again(handle, principal) {
            return Awaited::Lost;
        }
        if let Some(refused) = known {
            let ids: Vec<String> = refused.pages.iter().map(|page| page.id.clone()).collect();
            let _ = tokio::time::timeout(self.wait, refused.inputs.until_completed(&ids)).await;
        }
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(at: usize) -> String {
    format!("page-{}", at + 1)
}

fn requests(pages: &[Page], wanted: &dyn Fn(usize) -> bool) -> Bytes {
    let keyed: Vec<(String, &Page)> =
        pages.iter().enumerate().filter(|(at, _)| wanted(*at)).map(|(at, page)| (key(at), page)).collect();
    written(keyed.iter().map(|(key, page)| (&**key, "elicitation/create", &page.params[..])))
}

fn verdict(pages: &[Page], responses: Option<&Object>) -> Awaited {
    let answer = |at: usize| responses.and_then(|responses| responses.share(&key(at)));
    let answers: Vec<Option<Bytes>> = (0..pages.len()).map(answer).collect();
    if answers.iter().flatten().any(|raw| !is_answer(Expecting::Visit, raw)) {
        return Awaited::Malformed;
    }
    if answers.iter().flatten().any(|raw| !is_accept(raw)) {
        return Awaited::Declined;
    }
    if answers.iter().any(Option::is_none) {
        return Awaited::Asks(requests(pages, &|at| answers[at].is_none()));
    }
    Awaited::Again
}

/// Of pages that are not known any longer, only a refusal matters.
fn if_forgotten(responses: Option<&Object>) -> Awaited {
    let mut answers = responses.into_iter().flat_map(Object::iter);
    let declines = answers.any(|(_, raw)| {
        let raw = Bytes::copy_from_slice(raw);
        is_answer(Expecting::Visit, &raw) && !is_accept(&raw)
    });
    if declines { Awaited::Declined } else { Awaited::Again }
}

fn is_accept(raw: &Bytes) -> bool {
    let answer = Object::parse(raw.clone(), Limits::NONE);
    answer.is_ok_and(|answer| answer.text("action").as_deref() == Some("accept"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parked::inputs::tests::{inputs, object};

    fn page(id: &str) -> Page {
        Page { id: id.into(), params: br#"{"mode":"url"}"#.to_vec() }
    }

    #[test]
    fn s_elic_09_every_page_must_be_agreed_to() {
        let pages = [page("a"), page("b")];
        let of = |text: &str| verdict(&pages, Some(&object(text)));
        const YES: &str = r#"{"action":"accept"}"#;
        assert_eq!(of(&format!(r#"{{"page-1":{YES},"page-2":{YES},"x":1}}"#)), Awaited::Again);
        for no in ["decline", "cancel"] {
            let text = format!(r#"{{"page-1":{YES},"page-2":{{"action":"{no}"}}}}"#);
            assert_eq!(of(&text), Awaited::Declined);
        }
        let missing = of(&format!(r#"{{"page-1":{YES}}}"#));
        let expected = r#"{"page-2":{"method":"elicitation/create","params":{"mode":"url"}}}"#;
        assert_eq!(missing, Awaited::Asks(Bytes::from_static(expected.as_bytes())));
        assert_eq!(of(r#"{"page-1":12345}"#), Awaited::Malformed);
        assert!(matches!(verdict(&pages, None), Awaited::Asks(_)));
    }

    #[tokio::test]
    async fn s_elic_09_a_call_is_made_again_after_a_bounded_wait_by_its_own_principal() {
        let bounds = Bounds { pages_wait: Duration::from_millis(20), ..Bounds::default() };
        let calls = PagesToVisit::new(&bounds);
        let inputs = inputs("{}");
        let yes = object(r#"{"page-1":{"action":"accept"}}"#);
        let (handle, _) = calls.ask(Principal::Local, &inputs, vec![page("a")]).expect("random bits");
        assert!(matches!(calls.answered(handle, Principal::Local, None).await, Awaited::Asks(_)));
        assert_eq!(calls.answered(handle, Principal::Local, Some(&yes)).await, Awaited::Again);
        assert!(calls.lock().refused.is_empty());
        assert_eq!(calls.answered(handle, Principal::Local, Some(&yes)).await, Awaited::Lost, "once");
        let no = object(r#"{"page-1":{"action":"decline"}}"#);
        assert_eq!(calls.answered(handle, Principal::Local, Some(&no)).await, Awaited::Declined);
        let other = Handle::random().expect("random bits");
        assert_eq!(calls.answered(other, Principal::Local, None).await, Awaited::Again, "forgotten");
        assert_eq!(calls.answered(other, Principal::Local, None).await, Awaited::Lost, "once all the same");
    }

    #[tokio::test]
    async fn s_mrtr_07_of_two_who_come_at_once_one_makes_the_call() {
        let bounds = Bounds { pages_wait: Duration::from_millis(20), ..Bounds::default() };
        let calls = PagesToVisit::new(&bounds);
        let yes = object(r#"{"page-1":{"action":"accept"}}"#);
        let (handle, _) = calls.ask(Principal::Local, &inputs("{}"), vec![page("a")]).expect("random bits");
        let come = || calls.answered(handle, Principal::Local, Some(&yes));
        assert_eq!(tokio::join!(come(), come()), (Awaited::Again, Awaited::Lost));
    }

    #[test]
    fn s_mrtr_10_calls_that_nobody_comes_back_for_are_forgotten() {
        let calls = PagesToVisit::new(&Bounds::default());
        let inputs = inputs("{}");
        for _ in 0..KEPT + 10 {
            calls.ask(Principal::Local, &inputs, vec![page("a")]).expect("random bits");
        }
        assert_eq!(calls.lock().refused.len(), KEPT);
    }
}
