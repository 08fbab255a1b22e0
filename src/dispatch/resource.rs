//! `resources/read`, `resources/subscribe`, `resources/unsubscribe`.

use std::borrow::Cow;

use super::forward::Leg;
use super::{CALLER, Call, Failure, Outcome, Switchboard};
use crate::names::UpstreamName;
use crate::protocol::code::{INVALID_PARAMS, RESOURCE_NOT_FOUND};
use crate::protocol::frame::{Answer, ErrorObject};
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
        };
        match self.forward(call, leg).await? {
            Answer::Error(error) if is_not_found(&error) => Err(not_found(&uri)),
            answer => Ok(Outcome::Relayed { answer, upstream: route.upstream.clone(), view: view.clone() }),
        }
    }

    /// What a (un)subscription is about; the upstream must say that it can do this (S-RES-06). Nothing is asked yet, so
    /// that a session can be ready for updates before the upstream can send any.
    pub async fn subscription(&self, call: &Call) -> Result<Subscription, Failure> {
        let uri = uri_of(call)?;
        let view = self.view_with(&call.client, |view| view.resolve_uri(CALLER, &uri).is_some()).await?;
        let route = view.resolve_uri(CALLER, &uri).ok_or_else(|| not_found(&uri))?;
        // Stateless upstreams have no such request; following their resources needs their listen stream.
        let offered =
            self.upstreams.get(route.upstream).is_some_and(|upstream| upstream.can_subscribe(&call.client));
        if !offered {
            return Err(Failure::NotOffered("resources/subscribe"));
        }
        let (upstream, local) = (route.upstream.clone(), route.local.clone().into_owned());
        Ok(Subscription { public: uri, local, upstream })
    }

    /// Subscribes to a resource.
    pub async fn subscribe(&self, call: &Call, subscription: &Subscription) -> Result<(), Failure> {
        self.change_subscription(call, Method::Subscribe, subscription).await
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&self, call: &Call, subscription: &Subscription) -> Result<(), Failure> {
        self.change_subscription(call, Method::Unsubscribe, subscription).await
    }

    async fn change_subscription(
        &self,
        call: &Call,
        method: Method,
        subscription: &Subscription,
    ) -> Result<(), Failure> {
        let Subscription { public, local, upstream } = subscription;
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
        };
        match self.forward(call, leg).await? {
            Answer::Result(_) => Ok(()),
            Answer::Error(error) if is_not_found(&error) => Err(not_found(public)),
            Answer::Error(_) => Err(Failure::NotOffered(method.name())),
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
