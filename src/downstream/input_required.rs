//! Questions inside results, towards stateless clients: what goes out with a result, and what comes back with a retry
//! (S-MRTR).
//!
//! Always: keys and requests pass as their upstream wrote them, and nothing passes that the request did not declare; the
//! upstream's state never shows. Not here: what a request state holds (`dispatch::request_state`).

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::exchange::Finished;
use super::parking::Retry;
use super::respond::{self, Addressee};
use crate::dispatch::request_state::{Binding, NotValid, RequestState, RequestStates};
use crate::dispatch::{Failure, GivenInput};
use crate::names::UpstreamName;
use crate::parked::Handle;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::json::{Limits, Object, string};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::protocol::translate::question::{NotPut, puttable, without_context};
use crate::upstream::error::UpstreamError;
use crate::upstream::input::{Input, InputRequired};

const SHAPE: &str = "inputResponses must be an object of objects";

/// What a request brings besides what it asks for.
#[derive(Debug)]
pub(super) enum Brought {
    /// Nothing, or what goes to an upstream of the same era.
    Input(Option<GivenInput>),
    /// What goes on here.
    Retry(Box<Retry>),
}

/// Reads that. Only three methods can bring anything; elsewhere it is ignored (S-MRTR-12).
pub(super) fn given(
    states: &RequestStates,
    method: Method,
    params: &Object,
    binding: impl FnOnce() -> Binding,
) -> Result<Brought, Failure> {
    if !method.takes_input() {
        return Ok(Brought::Input(None));
    }
    let responses = match params.share("inputResponses") {
        None => None,
        Some(raw) => Some(responses(raw)?),
    };
    let Some(raw) = params.get("requestState") else {
        let input = responses.map(|responses| Input { responses: Some(responses.to_bytes()), state: None });
        let input = input.map(|input| GivenInput { upstream: None, input: Arc::new(input), round: 0 });
        return Ok(Brought::Input(input));
    };
    let text = string(raw).ok_or(NotValid::Unknown)?;
    match states.open(&binding(), &text, SystemTime::now())? {
        RequestState::Relay { upstream, state, round } => Ok(Brought::Input(Some(GivenInput {
            upstream: Some(UpstreamName::new(&*upstream)),
            input: Arc::new(Input { responses: responses.map(|all| all.to_bytes()), state: Some(state) }),
            round,
        }))),
        RequestState::Parked { call, round } => {
            let call = Handle::of_text(&call).ok_or(NotValid::Unknown)?;
            Ok(Brought::Retry(Box::new(Retry::Parked { call, round, responses })))
        }
        RequestState::Restart { upstream, pages, round } => {
            let (upstream, pages) = (UpstreamName::new(&*upstream), Handle::of_text(&pages));
            let pages = pages.ok_or(NotValid::Unknown)?;
            Ok(Brought::Retry(Box::new(Retry::Restart { upstream, pages, round, responses })))
        }
    }
}

/// Answers are objects by key; whatever else stands there is no answer, and nor are two for one key (S-MRTR-09).
fn responses(raw: Bytes) -> Result<Object, Failure> {
    let object = Object::parse(raw, Limits::default()).map_err(|_| Failure::InvalidParams(SHAPE))?;
    let are_objects = object.iter().all(|(_, value)| value.starts_with(b"{"));
    if are_objects { Ok(object) } else { Err(Failure::InvalidParams(SHAPE)) }
}

/// Who is asked.
pub(super) struct Asked<'a> {
    pub(super) to: &'a Addressee<'a>,
    /// What this request declared.
    pub(super) capabilities: &'a ClientCapabilities,
    /// What of it the upstream may use.
    pub(super) usable: &'a ClientCapabilities,
    pub(super) states: &'a RequestStates,
    /// Rounds so far.
    pub(super) round: u32,
}

impl Asked<'_> {
    /// The result that asks.
    pub(super) fn result(
        &self,
        upstream: &UpstreamName,
        asked: &InputRequired,
        binding: impl FnOnce() -> Binding,
    ) -> Finished {
        let failed = |why: String| {
            let error = UpstreamError::protocol(why);
            respond::respond(self.to, Err(Failure::Upstream { upstream: upstream.clone(), error }))
        };
        let mut changed = Vec::new();
        for (key, request) in asked.requests.iter() {
            match puttable(self.capabilities, request) {
                Ok(()) => {}
                // It insists on what it was told the client cannot do (era-bridge §9.4).
                Err(NotPut::Undeclared(needed)) => return respond::undeclared(self.to.id, needed),
                Err(NotPut::Faulty(why)) => return failed(why.to_owned()),
            }
            // It was not told that the client can do this.
            if puttable(self.usable, request).is_err() {
                let why = "this server may not ask for that here";
                let refused = Failure::InputRefused { upstream: upstream.clone(), why };
                return respond::respond(self.to, Err(refused));
            }
            if let Some(without) = without_context(self.usable, request) {
                changed.push((key, without));
            }
        }
        let round = self.round.saturating_add(1);
        if round > self.states.rounds {
            return failed(format!("it asked for input more than {} times", self.states.rounds));
        }
        let mut requests = Vec::new();
        if !changed.is_empty() {
            let mut edit = Edit::of(&asked.requests);
            for (key, request) in &changed {
                edit.set(key, &request[..]);
            }
            edit.write(&mut requests);
        }
        let mut edit = Edit::of(&asked.result);
        if !requests.is_empty() {
            edit.set("inputRequests", &requests[..]);
        }
        if let Some(state) = &asked.state {
            let state = RequestState::Relay { upstream: upstream.to_string(), state: state.clone(), round };
            match self.states.seal(&binding(), state, SystemTime::now()) {
                Ok(sealed) => edit.set_text("requestState", &sealed),
                Err(fault) => return failed(fault.to_string()),
            };
        }
        let mut text = Vec::with_capacity(asked.result.as_bytes().len() + 512);
        edit.write(&mut text);
        match Object::parse(text.into(), Limits::NONE) {
            Ok(result) => respond::result(self.to, &result, None),
            Err(fault) => failed(fault.to_string()),
        }
    }
}
