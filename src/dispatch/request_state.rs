//! `requestState`: what a stateless client holds for the gateway between the rounds of one call (S-MRTR-05, S-MRTR-06).
//!
//! Always: it is sealed, and bound to who called, at which endpoint, what and with which arguments; it ends; two of the same
//! content do not look alike; whatever is wrong with one that comes back, the answer is the same, unless it is only too old.
//! It holds no identifier of an upstream's hop but that upstream's own state. Not here: that a question is answered once
//! (`parked`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::ProfileName;
use crate::protocol::digest::Digest;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::store::seal::{Purpose, Sealer};

const REQUEST_STATE: Purpose = Purpose::new("request state");

/// Bytes of states that are too large to be handed out, over all calls.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// For how long one that came too late is told so by the call it was for.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// Longest state of an upstream that is remembered for it.
const LONGEST: usize = 1024 * 1024;

/// What a retry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestState {
    /// Calls the upstream of that key again, with its own state.
    Relay {
        /// Key of the upstream.
        upstream: String,
        /// Its state, byte for byte.
        state: String,
        /// Rounds so far.
        round: u32,
    },
    /// Answers the questions of a call that is still under way.
    Parked {
        /// Handle of the call.
        call: String,
        /// The round whose questions are answered.
        round: u32,
    },
    /// Makes the call anew once the pages it needed were visited.
    Restart {
        /// Key of the upstream.
        upstream: String,
        /// The upstream's identifiers of the pages, behind a handle of the gateway's own.
        pages: String,
        /// Rounds so far.
        round: u32,
    },
}

/// Why a request state is refused: `-32602`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotValid {
    /// Altered, cut, of somebody or something else, or nobody's.
    #[error("requestState is not one that was given out for this request")]
    Unknown,
    /// It was good once.
    #[error("requestState has expired; make the call again from its start")]
    Expired,
}

/// An upstream's state is longer than the gateway remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state it wants kept is too large")]
pub struct StateTooLarge;

/// What a request state belongs to.
#[derive(Debug)]
pub struct Binding {
    principal: &'static str,
    endpoint: String,
    method: &'static str,
    digest: String,
}

impl Binding {
    /// Of this request, in the client's own names: what it is called with, less what differs from round to round.
    pub fn of(principal: Principal, profile: Option<&ProfileName>, method: Method, params: &Object) -> Self {
        let mut digest = Digest::default();
        digest.text(&method.target().and_then(|target| params.text(target)).unwrap_or_default());
        digest.json(params.share("arguments"));
        Binding {
            principal: principal.key(),
            // A profile's name holds no slash.
            endpoint: profile.map_or_else(|| "/mcp".to_owned(), |profile| format!("/mcp/{profile}")),
            method: method.name(),
            digest: digest.finish(),
        }
    }

    fn scope(&self) -> [&str; 4] {
        [self.principal, &self.endpoint, self.method, &self.digest]
    }
}

/// Seals and opens them.
pub struct RequestStates {
    sealer: Arc<Sealer>,
    /// States too large to be handed out.
    kept: moka::sync::Cache<String, Arc<str>>,
    /// Longest text handed out, in bytes.
    longest: usize,
    /// For how long an upstream's state is good.
    age: Duration,
    /// For how long a question can be answered.
    wait: Duration,
    /// Rounds that one call may take.
    pub rounds: u32,
}

impl std::fmt::Debug for RequestStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestStates")
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// Seconds since 1970.
    until: u64,
    /// Whether the upstream's state is kept here, and this is only its handle.
    kept: bool,
    state: RequestState,
}

impl RequestStates {
    /// With these keys and limits.
    pub fn new(sealer: Arc<Sealer>, bounds: &Bounds) -> Self {
        RequestStates {
            sealer,
            kept: moka::sync::Cache::builder()
                .max_capacity(KEPT_BYTES)
                // The newest is the one whose client comes back.
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .weigher(|_, state: &Arc<str>| u32::try_from(state.len() + 128).unwrap_or(u32::MAX))
                .time_to_live(bounds.state_age)
                .build(),
            longest: bounds.request_state,
            age: bounds.state_age,
            wait: bounds.input_timeout,
            rounds: u32::try_from(bounds.input_rounds).unwrap_or(u32::MAX),
        }
    }

    /// The text for the client, good from `now` on.
    pub fn seal(
        &self,
        binding: &Binding,
        mut state: RequestState,
        now: SystemTime,
    ) -> Result<String, StateTooLarge> {
        // A call that waits knows itself when its time is over, and to the millisecond.
        let good_for = match state {
            RequestState::Relay { .. } => self.age,
            RequestState::Parked { .. } | RequestState::Restart { .. } => self.wait + AFTERWARDS,
        };
        let until = seconds(now).saturating_add(good_for.as_secs().max(1));
        let mut kept = false;
        if let RequestState::Relay { state: text, .. } = &mut state
            && text.len() > self.inline()
        {
            if text.len() > LONGEST {
                return Err(StateTooLarge);
            }
            let handle = handle().ok_or(StateTooLarge)?;
            self.kept.insert(handle.clone(), Arc::from(std::mem::replace(text, handle)));
            kept = true;
        }
        // Strings and numbers always have a JSON form.
        let payload = serde_json::to_vec(&Sealed { until, kept, state }).map_err(|_| StateTooLarge)?;
        Ok(self.sealer.seal(REQUEST_STATE, &binding.scope(), &payload))
    }

    /// What a text that came back says, at `now`.
    pub fn open(&self, binding: &Binding, text: &str, now: SystemTime) -> Result<RequestState, NotValid> {
        let payload =
            self.sealer.open(REQUEST_STATE, &binding.scope(), text).map_err(|_| NotValid::Unknown)?;
        let Sealed { until, kept, mut state } =
            serde_json::from_slice(&payload).map_err(|_| NotValid::Unknown)?;
        if seconds(now) >= until {
            return Err(NotValid::Expired);
        }
        if let RequestState::Relay { state: text, .. } = &mut state
            && kept
        {
            *text = self.kept.get(text).ok_or(NotValid::Expired)?.to_string();
        }
        Ok(state)
    }

    /// Bytes of an upstream's state that still fit into what is handed out: sealing and its text form add a third, and
    /// quoting may double some.
    fn inline(&self) -> usize {
        (self.longest / 2).saturating_sub(256)
    }
}

/// 128 random bits as text; `None` when there are none.
pub fn handle() -> Option<String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bits))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn states() -> RequestStates {
        RequestStates::new(Arc::new(Sealer::ephemeral().expect("randomness")), &Bounds::default())
    }

    fn params(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::NONE).expect("valid")
    }

    fn binding(profile: Option<&str>, method: Method, text: &str) -> Binding {
        Binding::of(Principal::Local, profile.map(ProfileName::new).as_ref(), method, &params(text))
    }

    fn relay(state: &str) -> RequestState {
        RequestState::Relay { upstream: "one".into(), state: state.into(), round: 1 }
    }

    const CALL: &str = r#"{"name":"t","arguments":{"a":1,"b":2}}"#;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn s_mrtr_06_a_state_opens_for_the_same_request_alone() {
        let states = states();
        let bound = binding(None, Method::CallTool, CALL);
        let text = states.seal(&bound, relay("theirs"), at(100)).expect("small");
        let same = r#"{"arguments":{"b":2, "a":1},"_meta":{"x":1},"inputResponses":{},"requestState":"s","name":"t"}"#;
        let again = binding(None, Method::CallTool, same);
        assert_eq!(states.open(&again, &text, at(101)), Ok(relay("theirs")));
        let others = [
            binding(Some("review"), Method::CallTool, CALL),
            binding(None, Method::GetPrompt, CALL),
            binding(None, Method::CallTool, &CALL.replace(r#""t""#, r#""u""#)),
            binding(None, Method::CallTool, &CALL.replace('2', "3")),
            binding(None, Method::CallTool, r#"{"name":"t"}"#),
        ];
        for other in others {
            assert_eq!(states.open(&other, &text, at(101)), Err(NotValid::Unknown), "{other:?}");
        }
    }

    #[test]
    fn s_mrtr_05_what_is_altered_or_another_deployment_s_is_refused() {
        let states = states();
        let bound = binding(None, Method::CallTool, CALL);
        let text = states.seal(&bound, relay("theirs"), at(100)).expect("small");
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(states.open(&bound, &altered, at(101)), Err(NotValid::Unknown), "byte {place}");
        }
        for other in [&text[1..], &text[..text.len() - 1], &format!("{text}-TAMPERED"), "", "{}"] {
            assert_eq!(states.open(&bound, other, at(101)), Err(NotValid::Unknown), "{other}");
        }
        let foreign = self::states().seal(&bound, relay("theirs"), at(100)).expect("small");
        assert_eq!(states.open(&bound, &foreign, at(101)), Err(NotValid::Unknown));
    }

    #[test]
    fn s_mrtr_06_a_state_ends_and_says_so() {
        let states = states();
        let bound = binding(None, Method::CallTool, CALL);
        let relayed = states.seal(&bound, relay("theirs"), at(100)).expect("small");
        let parked = RequestState::Parked { call: "c".into(), round: 1 };
        let parked = states.seal(&bound, parked, at(100)).expect("small");
        let bounds = Bounds::default();
        for (text, age) in [(relayed, bounds.state_age), (parked, bounds.input_timeout + AFTERWARDS)] {
            assert!(states.open(&bound, &text, at(100 + age.as_secs() - 1)).is_ok());
            let late = states.open(&bound, &text, at(100 + age.as_secs()));
            assert_eq!(late, Err(NotValid::Expired));
        }
    }

    #[test]
    fn s_mrtr_11_states_that_nobody_came_back_with_give_way_to_new_ones() {
        let states = states();
        let bound = binding(None, Method::CallTool, CALL);
        let large = "x".repeat(LONGEST);
        let mut newest = String::new();
        for _ in 0..2 * KEPT_BYTES as usize / LONGEST {
            newest = states.seal(&bound, relay(&large), at(100)).expect("kept");
            states.kept.run_pending_tasks();
        }
        assert_eq!(states.open(&bound, &newest, at(101)), Ok(relay(&large)));
    }

    #[test]
    fn s_mrtr_11_what_is_handed_out_is_short_and_never_the_same_twice() {
        let states = states();
        let bound = binding(None, Method::CallTool, CALL);
        let large = "\u{1}\"x".repeat(100 * 1024 / 3);
        let text = states.seal(&bound, relay(&large), at(100)).expect("kept");
        assert!(text.len() < 1024, "{}", text.len());
        assert_eq!(states.open(&bound, &text, at(101)), Ok(relay(&large)));
        let (one, other) = (states.seal(&bound, relay("s"), at(1)), states.seal(&bound, relay("s"), at(1)));
        assert_ne!(one, other);
        let most = "\"".repeat(states.inline());
        let text = states.seal(&bound, relay(&most), at(100)).expect("inline");
        assert!(text.len() <= states.longest * 2, "{}", text.len());
        let beyond = "x".repeat(LONGEST + 1);
        assert_eq!(states.seal(&bound, relay(&beyond), at(1)), Err(StateTooLarge));
    }
}
