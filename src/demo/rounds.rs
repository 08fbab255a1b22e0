//! Questions in the stateless era: a call ends with them, and comes again with the answers.
//!
//! Always: answers of earlier rounds come out of a state that this server sealed for the same request, or not at all.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::call::{Call, Stop};
use super::input::Input;
use super::wire::{Fault, Object};

const MAX_ROUNDS_OF_ANSWERS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// From earlier rounds, out of a state that was verified.
    pub(super) kept: Object,
    /// From this round, as the client gave them.
    given: Object,
    /// Whether a state came and held.
    verified: bool,
}

impl Call {
    pub(super) fn read_answers(&self, params: &Object) -> Result<Answers, Fault> {
        let given = match params.get("inputResponses") {
            None => Object::new(),
            Some(Value::Object(given)) if given.values().all(Value::is_object) => given.clone(),
            Some(_) => return Err(Fault::invalid_params("inputResponses must map keys to result objects")),
        };
        let (kept, verified) = match params.get("requestState") {
            None => (Object::new(), false),
            Some(Value::String(state)) => (self.server.seal.open(&self.digest, state)?, true),
            Some(_) => return Err(Fault::invalid_params("requestState must be a string")),
        };
        Ok(Answers { kept, given, verified })
    }

    /// Whether the client came back with a request state that held.
    pub(crate) fn has_verified_state(&self) -> bool {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).verified
    }

    pub(super) fn ask_by_result(&self, inputs: &[(&str, Input)], with_state: bool) -> Result<Object, Stop> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Object::new();
        let mut missing = Object::new();
        for (key, input) in inputs {
            let answer = answers.kept.get(*key).or_else(|| answers.given.get(*key)).cloned();
            match answer {
                Some(answer) if input.is_answered_by(&answer) => {
                    found.insert((*key).to_owned(), answer);
                }
                _ => {
                    let params = input.params_for(self.caller.revision);
                    missing.insert((*key).to_owned(), json!({ "method": input.method, "params": params }));
                }
            }
        }
        answers.kept.extend(found.clone());
        if missing.is_empty() {
            return Ok(found);
        }
        if answers.kept.len() > MAX_ROUNDS_OF_ANSWERS {
            return Err(Fault::invalid_params("too many rounds of answers").into());
        }
        let state =
            if with_state { Some(self.server.seal.close(&self.digest, &answers.kept)?) } else { None };
        Err(Stop::InputRequired { requests: missing, state })
    }

    /// Stateless: stops the call until the client has come again this often, with the state that it is given each time.
    pub(crate) fn come_again(&self, times: usize) -> Result<(), Stop> {
        if !self.caller.is_stateless() {
            return Ok(());
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.kept.len() >= times {
            return Ok(());
        }
        let visit = format!("visit {}", answers.kept.len());
        answers.kept.insert(visit, json!({}));
        let state = Some(self.server.seal.close(&self.digest, &answers.kept)?);
        Err(Stop::InputRequired { requests: Object::new(), state })
    }
}
