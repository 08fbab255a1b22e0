//! Questions of the stateless era, which stand inside a result: whether they may be put as they are.

use bytes::Bytes;

use super::elicitation::is_web_address;
use super::written;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::json::{Limits, Object};
use crate::protocol::splice::Edit;

/// Why a question inside a result is not put to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPut {
    /// The request did not declare what it needs: a `ClientCapabilities` object.
    Undeclared(&'static str),
    /// It is no question, or one that is put to nobody.
    Faulty(&'static str),
}

/// Whether a client of these capabilities can be put this entry of `inputRequests` as it is (S-MRTR-02, S-ELIC-07).
pub fn puttable(capabilities: &ClientCapabilities, entry: &[u8]) -> Result<(), NotPut> {
    let faulty = |why| Err(NotPut::Faulty(why));
    let Some(entry) = Object::parse(Bytes::copy_from_slice(entry), Limits::default()).ok() else {
        return faulty("an input request is no object, or says something twice");
    };
    let Some(params) = parameters(&entry) else {
        return faulty("the parameters of an input request are no object, or say something twice");
    };
    let needs = |has: bool, what| if has { Ok(()) } else { Err(NotPut::Undeclared(what)) };
    match entry.text("method").as_deref() {
        Some("roots/list") => needs(capabilities.roots(), r#"{"roots":{}}"#),
        Some("sampling/createMessage") => {
            needs(capabilities.sampling(), r#"{"sampling":{}}"#)?;
            let tools = params.get("tools").is_some() || params.get("toolChoice").is_some();
            needs(!tools || capabilities.sampling_tools(), r#"{"sampling":{"tools":{}}}"#)
        }
        Some("elicitation/create") => match params.get("mode").map(|_| params.text("mode")) {
            None => needs(capabilities.elicitation_form(), r#"{"elicitation":{"form":{}}}"#),
            Some(Some(mode)) if mode == "form" => {
                needs(capabilities.elicitation_form(), r#"{"elicitation":{"form":{}}}"#)
            }
            Some(Some(mode)) if mode == "url" => {
                needs(capabilities.elicitation_url(), r#"{"elicitation":{"url":{}}}"#)?;
                match params.text("url") {
                    Some(url) if is_web_address(&url) => Ok(()),
                    _ => faulty("it asks for a page that is no web address"),
                }
            }
            Some(_) => faulty("unknown elicitation mode"),
        },
        _ => faulty("it asks what no client is asked"),
    }
}

/// Parameters of an input request, none where it has none; whoever reads them must find in them what was judged, so that
/// nothing may be said twice.
pub fn parameters(entry: &Object) -> Option<Object> {
    match entry.share("params") {
        None => Some(Object::empty()),
        Some(raw) => Object::parse(raw, Limits::default()).ok(),
    }
}

/// The entry as it is put where its client's context is not for this server; `None` where it is put as it is (S-SAMP-03).
pub fn without_context(capabilities: &ClientCapabilities, entry: &[u8]) -> Option<Vec<u8>> {
    let entry = Object::parse(Bytes::copy_from_slice(entry), Limits::NONE).ok()?;
    let params = entry.object("params").filter(|_| !capabilities.sampling_context())?;
    params.text("includeContext").filter(|context| context != "none")?;
    let mut without = Edit::of(&params);
    without.set_text("includeContext", "none");
    Some(written(Edit::of(&entry).set("params", written(&without))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(declared: &'static str, entry: &str) -> Result<(), NotPut> {
        let raw = Object::parse(Bytes::from_static(declared.as_bytes()), Limits::NONE).expect("valid");
        puttable(&ClientCapabilities::new(raw), entry.as_bytes())
    }

    #[test]
    fn s_mrtr_02_only_what_the_request_declared_is_asked() {
        let form = r#"{"method":"elicitation/create","params":{"message":"m","requestedSchema":{}}}"#;
        let page =
            r#"{"method":"elicitation/create","params":{"mode":"url","message":"m","url":"https://a"}}"#;
        let tools = r#"{"method":"sampling/createMessage","params":{"tools":[]}}"#;
        let roots = r#"{"method":"roots/list"}"#;
        assert_eq!(judged(r#"{"elicitation":{}}"#, form), Ok(()));
        assert_eq!(judged(r#"{"elicitation":{"url":{}}}"#, page), Ok(()));
        assert_eq!(judged(r#"{"sampling":{"tools":{}}}"#, tools), Ok(()));
        assert_eq!(judged(r#"{"roots":{}}"#, roots), Ok(()));
        let undeclared = [
            (r#"{"elicitation":{"url":{}}}"#, form, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{}}"#, page, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"sampling":{}}"#, tools, r#"{"sampling":{"tools":{}}}"#),
            (r#"{"elicitation":{}}"#, tools, r#"{"sampling":{}}"#),
            ("{}", roots, r#"{"roots":{}}"#),
        ];
        for (declared, entry, needed) in undeclared {
            assert_eq!(judged(declared, entry), Err(NotPut::Undeclared(needed)), "{entry}");
        }
    }

    #[test]
    fn s_elic_07_what_is_no_question_or_no_web_address_is_put_to_nobody() {
        const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;
        for entry in [
            "7",
            r#"{"method":"tools/call"}"#,
            r#"{"params":{}}"#,
            r#"{"method":"roots/list","params":[]}"#,
            r#"{"method":"elicitation/create","params":{"mode":"url","url":"javascript:alert(1)"}}"#,
            r#"{"method":"elicitation/create","params":{"mode":"url"}}"#,
            r#"{"method":"elicitation/create","params":{"mode":7}}"#,
            r#"{"method":"elicitation/create","params":{"mode":"form","url":"javascript:a","mode":"url"}}"#,
            r#"{"method":"roots/list","method":"sampling/createMessage"}"#,
            r#"{"method":"roots/list","params":{},"p\u0061rams":{"x":1}}"#,
        ] {
            assert!(matches!(judged(ALL, entry), Err(NotPut::Faulty(_))), "{entry}");
        }
    }
}
