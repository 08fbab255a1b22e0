//! A listener as upstreams reach it: told of the resources that it follows, and asked nothing.

use std::sync::Arc;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio_util::sync::CancellationToken;

use super::hub::Listening;
use super::listener::Listener;
use crate::auth::principal::Principal;
use crate::names::{ProfileName, UpstreamName};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::code::METHOD_NOT_FOUND;
use crate::protocol::json::Object;
use crate::session::handle::PublicUris;
use crate::upstream::call::{Affinity, Client, ClientPort};
use crate::upstream::client_port::Reach;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient};

struct ListenPort {
    listener: Arc<Listener>,
    public_uris: PublicUris,
}

/// The caller that follows resources for a listening. Whoever has it cancels `closed` when the listening is over.
pub fn client_of(
    listening: &Listening,
    principal: Principal,
    profile: Option<ProfileName>,
    public_uris: PublicUris,
) -> Arc<Client> {
    let port = ListenPort { listener: Arc::clone(listening.listener()), public_uris };
    Arc::new(Client {
        principal,
        affinity: Affinity::Listen(listening.number()),
        task_of: None,
        profile,
        capabilities: ClientCapabilities::none(),
        port: Some(ClientPort::new(port)),
        closed: CancellationToken::new(),
    })
}

impl Reach for ListenPort {
    fn asks_by_requests(&self) -> bool {
        false
    }

    fn ask(&self, _: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        let refused = QuestionRefused::Refused(METHOD_NOT_FOUND, "a stream of changes can be asked nothing");
        async move { Err(refused) }.boxed_local()
    }

    fn withdraw(&self, _: u64) {}

    fn tell(&self, news: TellClient) -> bool {
        if &*news.notification.method == "notifications/resources/updated" {
            self.listener.updated(&news.upstream, &news.notification.params, &self.public_uris);
        }
        true
    }

    fn admits_log(&self, _: &UpstreamName, _: &Object) -> bool {
        false
    }
}
