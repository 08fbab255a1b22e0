//! `resources/read`, `resources/subscribe`, `resources/unsubscribe`.
//!
//! Always: a URI that no server has is refused by the gateway; one that its server does not know is refused in that
//! server's words. Not here: the code of a missing resource in each era (`downstream::respond`).

use std::borrow::Cow;
use std::sync::Arc;

use super::forward::Leg;
use super::reading::Read;
use super::{CALLER, Call, Failure, Outcome, Switchboard};
use crate::catalog::snapshot::View;
use crate::names::UpstreamName;
use crate::protocol::code::{INVALID_PARAMS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::telemetry::spans::Target;

/// A resource that can be subscribed to, and whose updates belong to which of the client's URIs.
#[derive(Debug)]
pub struct Subscription {
    /// The URI the client uses.
    pub public: String,
    /// The URI the upstream uses.
    pub local: String,
    /// Whose resource it is.
    pub upstream: UpstreamName,
    /// The view by which its URIs become public.
    view: Arc<View>,
}

/// What became of a wish to follow a resource, or to follow it no longer.
#[derive(Debug)]
pub enum Subscribing {
    /// It is so now.
    Accepted,
    /// The upstream refuses; its words.
    Refused(Box<Outcome>),
}

impl Switchboard {
    /// Reads a resource by its public URI.
    pub async fn read_resource(&self, call: &Call) -> Result<Outcome, Failure> {
        let uri = uri_of(call)?;
        let view = self.view_with(&call.client, |view| view.resolve_uri(CALLER, &uri).is_some()).await?;
        let route = view.resolve_uri(CALLER, &uri).ok_or_else(|| not_found(&uri))?;
        let mut params = Edit::of(&call.params);
        if *uri != *route.local {
            params.set_text("uri", &route.local);
        }
        let leg = Leg {
            upstream: route.upstream,
            method: Method::ReadResource,
            params,
            local: Some(route.local.clone()),
            target: Target::None,
            param_headers: Vec::new(),
            task: None,
        };
        let answer = match self.read_through(call, leg).await? {
            Read::Complete(result, lifetime) => {
                let (upstream, view) = (route.upstream.clone(), view.clone());
                return Ok(Outcome::Read { result, lifetime, upstream, view });
            }
            Read::Other(Answer::Error(error)) if is_not_found(&error) => {
                let public = |local: &str| view.public_uri(CALLER, route.upstream, local);
                Answer::Error(in_public_uris(&error, &route.local, &uri, public))
            }
            Read::Other(answer) => answer,
        };
        Ok(Outcome::Relayed { answer, upstream: route.upstream.clone(), view: view.clone() })
    }

    /// What a (un)subscription is about; the upstream must say that it can do this (S-RES-06). Nothing is asked yet, so
    /// that a session can be ready for updates before the upstream can send any.
    pub async fn subscription(&self, call: &Call) -> Result<Subscription, Failure> {
        let uri = uri_of(call)?;
        let view = self.view_with(&call.client, |view| view.resolve_uri(CALLER, &uri).is_some()).await?;
        let route = view.resolve_uri(CALLER, &uri).ok_or_else(|| not_found(&uri))?;
        let offered =
            self.upstreams.get(route.upstream).is_some_and(|upstream| upstream.can_subscribe(&call.client));
        if !offered {
            return Err(Failure::NotOffered("resources/subscribe"));
        }
        let (upstream, local) = (route.upstream.clone(), route.local.clone().into_owned());
        Ok(Subscription { public: uri, local, upstream, view: view.clone() })
    }

    /// The URI that a request of `resources/…` is about.
    pub fn resource_uri(call: &Call) -> Result<String, Failure> {
        uri_of(call)
    }

    /// A subscription as it was made, wherever its URI leads by now.
    pub fn kept_subscription(
        &self,
        call: &Call,
        public: String,
        local: String,
        upstream: UpstreamName,
    ) -> Result<Subscription, Failure> {
        let profile = call.client.profile.as_ref().map(|profile| profile.as_str());
        let view = self.catalogue.view(profile).ok_or(Failure::UnknownEndpoint)?;
        Ok(Subscription { public, local, upstream, view })
    }

    /// Subscribes to a resource.
    pub async fn subscribe(&self, call: &Call, subscription: &Subscription) -> Result<Subscribing, Failure> {
        self.change_subscription(call, Method::Subscribe, subscription).await
    }

    /// Ends a subscription.
    pub async fn unsubscribe(
        &self,
        call: &Call,
        subscription: &Subscription,
    ) -> Result<Subscribing, Failure> {
        self.change_subscription(call, Method::Unsubscribe, subscription).await
    }

    fn subscribes_by_listening(&self, upstream: &UpstreamName) -> bool {
        self.upstreams.get(upstream).is_some_and(|upstream| upstream.subscribes_by_listening())
    }

    async fn change_subscription(
        &self,
        call: &Call,
        method: Method,
        subscription: &Subscription,
    ) -> Result<Subscribing, Failure> {
        let Subscription { public, local, upstream, view } = subscription;
        let mut params = Edit::of(&call.params);
        if public != local {
            params.set_text("uri", local);
        }
        let leg = Leg {
            upstream,
            method,
            params,
            local: Some(Cow::Borrowed(local)),
            target: Target::None,
            param_headers: Vec::new(),
            task: None,
        };
        match self.forward(call, leg).await? {
            Answer::Result(_) => Ok(Subscribing::Accepted),
            Answer::Error(_) if self.subscribes_by_listening(upstream) => {
                Err(Failure::NotSubscribable { uri: public.clone() })
            }
            Answer::Error(error) if error.code == METHOD_NOT_FOUND => Err(Failure::NotOffered(method.name())),
            Answer::Error(mut error) => {
                if is_not_found(&error) {
                    let in_public = |local: &str| view.public_uri(CALLER, upstream, local);
                    error = in_public_uris(&error, local, public, in_public);
                }
                let (answer, upstream, view) = (Answer::Error(error), upstream.clone(), Arc::clone(view));
                Ok(Subscribing::Refused(Box::new(Outcome::Relayed { answer, upstream, view })))
            }
        }
    }
}

fn uri_of(call: &Call) -> Result<String, Failure> {
    let uri = call.params.text("uri").ok_or(Failure::InvalidParams("uri must be a string"))?;
    // RFC 3986: a scheme, and no byte that a URI cannot hold. Nothing else is looked at before routing (S-RES-03).
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let mut letters = scheme.bytes();
    let valid = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !uri.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    if valid { Ok(uri.into_owned()) } else { Err(Failure::InvalidParams("uri is not a URI")) }
}

fn not_found(uri: &str) -> Failure {
    Failure::UnknownResource { uri: uri.to_owned() }
}

/// The handshake era's own code, or the stateless era's form of it: invalid params that name the URI (S-RES-02).
fn is_not_found(error: &ErrorObject) -> bool {
    match error.code {
        RESOURCE_NOT_FOUND => true,
        INVALID_PARAMS => error.object.object("data").is_some_and(|data| data.get("uri").is_some()),
        _ => false,
    }
}

/// The upstream's own words (S-BASE-05) with the URIs that clients know, under the one code that the edge maps to each
/// era. Data that is no object stays as it is; a URI is added only where that takes nothing away.
fn in_public_uris(
    error: &ErrorObject,
    local: &str,
    asked: &str,
    public: impl Fn(&str) -> Option<String>,
) -> ErrorObject {
    let data = match error.object.get("data") {
        None | Some(b"null") => Some(Object::empty()),
        Some(_) => error.object.object("data"),
    };
    let mut edit = Edit::of(&error.object);
    if error.code != RESOURCE_NOT_FOUND {
        edit.set("code", RESOURCE_NOT_FOUND.to_string().into_bytes());
    }
    if let Some(data) = &data {
        let named = data.text("uri");
        let shown = match named.as_deref() {
            Some(named) if named != local => public(named).unwrap_or_else(|| named.to_owned()),
            // A wrapped URI comes back as it was asked for, even where nothing would have had to be wrapped.
            _ => asked.to_owned(),
        };
        if named.as_deref() != Some(&*shown) {
            let mut out = Vec::new();
            Edit::of(data).set_text("uri", &shown).write(&mut out);
            edit.set("data", out);
        }
    }
    let mut text = Vec::new();
    edit.write(&mut text);
    match Object::parse(text.into(), Limits::NONE) {
        Ok(object) => ErrorObject { code: RESOURCE_NOT_FOUND, object },
        Err(_) => ErrorObject::own(RESOURCE_NOT_FOUND, &error.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &str) -> String {
        let object = Object::parse(error.to_owned().into(), Limits::default()).expect("valid");
        let code = object.get("code").and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
        let error = ErrorObject { code: code.expect("a code"), object };
        assert!(is_not_found(&error));
        let public = |uri: &str| (uri == "x:taken").then(|| "switchyard://b/x:taken".to_owned());
        let shown = in_public_uris(&error, "x:1", "switchyard://b/x:1", public);
        assert_eq!(shown.code, RESOURCE_NOT_FOUND);
        String::from_utf8(shown.object.as_bytes().to_vec()).expect("UTF-8")
    }

    #[test]
    fn s_base_05_a_missing_resource_is_told_in_the_servers_words() {
        assert_eq!(
            said(r#"{"code":-32602,"message":"gone","data":{"more": 1.50,"uri":"x:1"},"odd":[ ]}"#),
            r#"{"code":-32002,"message":"gone","data":{"more": 1.50,"uri":"switchyard://b/x:1"},"odd":[ ]}"#
        );
        let untouched = r#"{ "code":-32002, "message":"gone", "data":{"uri":"x:free" ,"n":1e2} }"#;
        assert_eq!(said(untouched), untouched);
        let text = r#"{"code":-32002,"message":"gone","data":"see the manual"}"#;
        assert_eq!(said(text), text);
    }

    #[test]
    fn s_res_05_every_uri_of_a_refusal_is_one_that_clients_know() {
        for (data, expected) in [
            (r#","data":{"uri":"x:taken"}"#, r#"{"uri":"switchyard://b/x:taken"}"#),
            (r#","data":{}"#, r#"{"uri":"switchyard://b/x:1"}"#),
            (r#","data":null"#, r#"{"uri":"switchyard://b/x:1"}"#),
            ("", r#"{"uri":"switchyard://b/x:1"}"#),
        ] {
            let shown = said(&format!(r#"{{"code":-32002,"message":"m"{data}}}"#));
            assert_eq!(shown, format!(r#"{{"code":-32002,"message":"m","data":{expected}}}"#));
        }
    }
}
