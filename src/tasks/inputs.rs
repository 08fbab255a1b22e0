//! What a task asks its client, in the client's dialect.
//!
//! Always: keys are unique over a task's life; an answer counts once; partial answers leave the rest open; what names no
//! open question is ignored, and what has not the shape of its question leaves it open (S-TX-06: an acknowledgement says
//! nothing of either). Not here: how questions of sessions travel (`carried`).

use std::sync::Arc;

use bytes::Bytes;

use super::carried::CarriedInputs;
use crate::parked::Inputs;
use crate::protocol::json::{Limits, Object};
use crate::protocol::task::Dialect;
use crate::protocol::translate::question::is_answer;
use crate::upstream::call::ClientPort;

/// How the client of a task is asked.
#[derive(Debug, Clone)]
pub enum TaskInputs {
    /// Not at all.
    None,
    /// It looks for questions and answers them by key (extension).
    Keyed(Arc<Inputs>),
    /// Questions are carried to it as requests (core).
    Carried(Arc<CarriedInputs>),
}

impl TaskInputs {
    /// How upstreams reach it; each call makes another port of the same client.
    pub fn port(&self) -> Option<ClientPort> {
        match self {
            TaskInputs::None => None,
            TaskInputs::Keyed(inputs) => Some(ClientPort::new(inputs.port())),
            TaskInputs::Carried(inputs) => Some(ClientPort::new(inputs.port())),
        }
    }

    /// In which dialect something is asked now; `None`: nothing is.
    pub fn asks_in(&self) -> Option<Dialect> {
        match self {
            TaskInputs::None => None,
            TaskInputs::Keyed(inputs) => inputs.are_open().then_some(Dialect::Extension),
            TaskInputs::Carried(inputs) => inputs.are_open().then_some(Dialect::Core),
        }
    }

    /// `inputRequests` of what is asked now.
    pub fn requests(&self) -> Option<Bytes> {
        match self {
            TaskInputs::Keyed(inputs) => inputs.requests(None).map(|(_, requests)| requests),
            TaskInputs::None | TaskInputs::Carried(_) => None,
        }
    }

    /// Resolves when a question was added, answered or withdrawn since the last time. One watcher at a time.
    pub(super) async fn changed(&self) {
        match self {
            TaskInputs::None => std::future::pending().await,
            TaskInputs::Keyed(inputs) => inputs.changed().await,
            TaskInputs::Carried(inputs) => inputs.changed().await,
        }
    }

    /// Hands answers to whoever asked, by key.
    pub(super) fn answer(&self, responses: &Object) {
        let TaskInputs::Keyed(inputs) = self else { return };
        let Some((numbers, _)) = inputs.requests(None) else { return };
        for number in numbers {
            let Some((key, expecting)) = inputs.expected(number) else { continue };
            let Some(raw) = responses.share(&key).filter(|raw| is_answer(expecting, raw)) else { continue };
            if let Ok(answer) = Object::parse(raw, Limits::NONE) {
                inputs.answer(number, answer);
            }
        }
    }

    /// By which id the client knows the task.
    pub(super) fn name(&self, id: &str) {
        if let TaskInputs::Carried(inputs) = self {
            inputs.name(id);
        }
    }

    /// Nobody is asked anything any longer.
    pub(super) fn close(&self) {
        match self {
            TaskInputs::None => {}
            TaskInputs::Keyed(inputs) => inputs.close(),
            TaskInputs::Carried(inputs) => inputs.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parked::tests::{FORM, inputs, object, pose};
    use crate::protocol::frame::Answer;

    const ROOTS: &str = r#"{"roots":[]}"#;

    #[test]
    fn s_tx_06_partial_answers_leave_the_rest_and_unknown_keys_and_misshapen_answers_change_nothing() {
        let keyed = inputs(r#"{"roots":{},"elicitation":{}}"#);
        let inputs = TaskInputs::Keyed(Arc::clone(&keyed));
        let mut form = pose(&keyed, "elicitation/create", FORM);
        let mut roots = pose(&keyed, "roots/list", "{}");
        let keys = || {
            let requests = inputs.requests().expect("something is asked");
            let requests = object(std::str::from_utf8(&requests).expect("UTF-8"));
            requests.iter().map(|(key, _)| key.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (keys(), inputs.asks_in()),
            (vec!["elicitation-1".into(), "roots-2".into()], Some(Dialect::Extension))
        );
        for ignored in [
            r#"{"other":{"action":"accept"},"roots-9":{"roots":[]}}"#,
            r#"{"elicitation-1":12,"roots-2":{"action":"accept"}}"#,
            "{}",
        ] {
            inputs.answer(&object(ignored));
            assert_eq!(keys().len(), 2, "{ignored}");
        }
        inputs.answer(&object(&format!(r#"{{"roots-2":{ROOTS},"elicitation-1":null}}"#)));
        assert_eq!(keys(), ["elicitation-1"]);
        assert!(matches!(roots.answer.try_recv(), Ok(Answer::Result(_))) && form.answer.try_recv().is_err());
        // Answered once.
        inputs.answer(&object(&format!(r#"{{"roots-2":{ROOTS}}}"#)));
        inputs.answer(&object(r#"{"elicitation-1":{"action":"decline"}}"#));
        assert!(form.answer.try_recv().is_ok());
        assert_eq!(inputs.asks_in(), None);
        // A key never comes again.
        let _again = pose(&keyed, "roots/list", "{}");
        assert_eq!(keys(), ["roots-3"]);
    }
}
