//! A session as upstreams reach it: its actor's mailbox, and before it the gate of its logs.

use std::sync::Arc;

use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::actor::SessionAddress;
use super::messages::Settle;
use crate::names::UpstreamName;
use crate::protocol::json::Object;
use crate::upstream::client_port::Reach;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient, WithdrawQuestion};
use crate::upstream::rate::LogGate;

pub(super) struct SessionPort {
    pub(super) actor: SessionAddress,
    pub(super) logs: Arc<LogGate>,
}

impl Reach for SessionPort {
    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        let sent = self.actor.send(asked);
        async move { sent.await.unwrap_or(Err(QuestionRefused::Gone)) }.boxed_local()
    }

    fn withdraw(&self, number: u64) {
        // However full the mailbox is: there is one for each question, and those are counted.
        self.actor.clone().recipient().do_send(WithdrawQuestion { number });
    }

    fn tell(&self, news: TellClient) -> bool {
        if news.is_expected {
            // However full the mailbox is: a page is completed once, and pages are counted.
            self.actor.clone().recipient().do_send(news);
            return true;
        }
        self.actor.try_send(news).is_ok()
    }

    fn settled(&self) -> LocalBoxFuture<'_, ()> {
        let handled = self.actor.send(Settle);
        // A session that has ended tells nobody anything.
        async move { handled.await.unwrap_or(()) }.boxed_local()
    }

    fn admits_log(&self, upstream: &UpstreamName, params: &Object) -> bool {
        self.logs.admits(upstream, params)
    }
}
