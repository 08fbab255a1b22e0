//! One call to an upstream that may come back as a task.
//!
//! Always: a call that its caller gives up is listened to for a moment longer, because a task that it becomes meanwhile would
//! be nobody's: it is cancelled. Not here: when a call may become a task (`wish`), what becomes of one (`driven`).

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use http::header::{HeaderName, HeaderValue};

use super::driven::Followed;
use crate::policy::Permit;
use crate::protocol::json::{Limits, Object};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::upstream::call::{Circumstances, Client, UpstreamCall};
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::Reply;

/// How long a call that was given up is listened to: an upstream says at once that it made a task (S-TASK-05).
const LISTENED_TO: Duration = Duration::from_secs(1);

/// See the module head: everything the call consists of, so that it can outlive its caller.
pub(super) struct CallForTask {
    pub(super) upstream: UpstreamHandle,
    pub(super) method: Method,
    pub(super) params: Object,
    /// The upstream's own name of the tool.
    pub(super) local: Option<String>,
    pub(super) param_headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) circumstances: Circumstances,
}

/// Parameters as they are sent.
pub(super) fn written(params: &Edit<'_>) -> Result<Object, UpstreamError> {
    let mut text = Vec::new();
    params.write(&mut text);
    let written = Object::parse(text.into(), Limits::NONE);
    written.map_err(|fault| UpstreamError::protocol(fault.to_string()))
}

impl CallForTask {
    /// Makes the call.
    pub(super) fn send(self, permit: Permit) -> UnderWay {
        let (upstream, client) = (self.upstream.clone(), Arc::clone(&self.circumstances.client));
        let trace = self.circumstances.trace.clone();
        let calling = async move {
            let call = UpstreamCall {
                method: self.method,
                params: Edit::of(&self.params),
                target: self.local.map(Cow::Owned),
                param_headers: self.param_headers,
                circumstances: &self.circumstances,
            };
            self.upstream.forward(permit, &call).await
        };
        UnderWay { calling: Some(calling.boxed_local()), upstream, client, trace }
    }
}

/// Such a call under way.
pub(super) struct UnderWay {
    calling: Option<LocalBoxFuture<'static, Result<Reply, UpstreamError>>>,
    upstream: UpstreamHandle,
    client: Arc<Client>,
    trace: Vec<(&'static str, String)>,
}

impl Future for UnderWay {
    type Output = Result<Reply, UpstreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(calling) = &mut self.calling else { return Poll::Pending };
        let reply = std::task::ready!(calling.poll_unpin(cx));
        self.calling = None;
        Poll::Ready(reply)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(calling) = self.calling.take() else { return };
        let (upstream, client) = (self.upstream.clone(), Arc::clone(&self.client));
        let trace = std::mem::take(&mut self.trace);
        tokio::task::spawn_local(async move {
            if let Ok(Ok(Reply::Task(created))) = tokio::time::timeout(LISTENED_TO, calling).await {
                let mut followed = Followed::of(upstream, &client, created.place, &created.facts, trace);
                followed.known(&created.facts);
            }
        });
    }
}
