//! `completion/complete`.

use bytes::Bytes;

use super::forward::Leg;
use super::{CALLER, Call, Failure, Outcome, Switchboard};
use crate::protocol::code::METHOD_NOT_FOUND;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object, elements};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::telemetry::spans::Target;

/// Most values of one answer (S-COMP-01).
const VALUES: usize = 100;

impl Switchboard {
    /// Completes an argument of a prompt or a resource template.
    pub async fn complete(&self, call: &Call) -> Result<Outcome, Failure> {
        let view = self.complete_view(&call.client, None).await?;
        let reference = call.params.object("ref").ok_or(Failure::InvalidParams("ref must be an object"))?;
        if call.params.object("argument").is_none_or(|argument| argument.text("name").is_none()) {
            return Err(Failure::InvalidParams("argument must have a name and a value"));
        }
        let route = view.resolve_completion_ref(CALLER, &reference).ok_or(Failure::UnknownReference)?;
        let facts = self.upstreams.get(route.upstream).and_then(|upstream| upstream.facts());
        // The union declares completion; an upstream without it has nothing to suggest (S-COMP-03). Revision
        // 2024-11-05 has the method and no capability.
        let offered = facts.is_none_or(|facts| {
            facts.capabilities.offers("completions")
                || facts.revision < crate::protocol::era::Revision::V2025_03_26
        });
        let nothing = || Outcome::Own(Bytes::from_static(br#"{"completion":{"values":[]}}"#));
        if !offered {
            return Ok(nothing());
        }
        let mut local_reference = Vec::new();
        Edit::of(&reference).set_text(route.member, &route.local).write(&mut local_reference);
        let mut params = Edit::of(&call.params);
        params.set("ref", local_reference);
        let leg = Leg {
            upstream: route.upstream,
            method: Method::Complete,
            params,
            local: None,
            target: Target::None,
            param_headers: Vec::new(),
            task: None,
        };
        match self.forward(call, leg).await? {
            Answer::Error(error) if error.code == METHOD_NOT_FOUND => Ok(nothing()),
            Answer::Result(result) => Ok(match shortened(&result) {
                Some(shorter) => Outcome::Own(shorter),
                None => Outcome::Relayed {
                    answer: Answer::Result(result),
                    upstream: route.upstream.clone(),
                    view: view.clone(),
                },
            }),
            answer => Ok(Outcome::Relayed { answer, upstream: route.upstream.clone(), view: view.clone() }),
        }
    }
}

/// The result cut to what the protocol allows; `None` when it is short enough.
fn shortened(result: &Object) -> Option<Bytes> {
    let completion = result.object("completion")?;
    let values = elements(&completion.share("values")?, Limits::NONE).ok()?;
    if values.len() <= VALUES {
        return None;
    }
    let mut kept = b"[".to_vec();
    kept.extend_from_slice(&values[..VALUES].join(&b","[..]));
    kept.push(b']');
    let mut text = Vec::new();
    Edit::of(&completion).set("values", kept).set("hasMore", &b"true"[..]).write(&mut text);
    Some([&b"{\"completion\":"[..], &text, b"}"].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_comp_01_more_than_a_hundred_values_are_cut() {
        let answer = |count: usize| {
            let values = (0..count).map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(",");
            let text = format!(r#"{{"completion":{{"values":[{values}],"total":{count},"hasMore":false}}}}"#);
            Object::parse(text.into(), Limits::default()).expect("valid")
        };
        assert!(shortened(&answer(100)).is_none());
        let cut = Object::parse(shortened(&answer(150)).expect("cut"), Limits::default()).expect("valid");
        let completion = cut.object("completion").expect("an object");
        assert_eq!(completion.get("hasMore"), Some(&b"true"[..]));
        assert_eq!(completion.get("total"), Some(&b"150"[..]));
        let values = elements(&completion.share("values").expect("there"), Limits::NONE).expect("an array");
        assert_eq!(values.len(), 100);
    }
}
