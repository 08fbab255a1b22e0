//! Tells sessions, and stateless clients that listen, that what they see has changed.

use std::sync::Arc;

use actix::prelude::*;

use crate::catalog::messages::CatalogueChanged;
use crate::listening::{Hub, Lists};
use crate::session::SessionTable;
use crate::session::messages::ListsChanged;

/// Changes that may wait; more are found in the ones that wait already.
pub(super) const MAILBOX: usize = 64;

pub(super) struct Announcer {
    pub(super) sessions: Arc<SessionTable>,
    pub(super) hub: Arc<Hub>,
}

impl Actor for Announcer {
    type Context = Context<Self>;
}

impl Handler<CatalogueChanged> for Announcer {
    type Result = ();

    fn handle(&mut self, changed: CatalogueChanged, _: &mut Self::Context) {
        for view in changed.views {
            let lists = ListsChanged {
                tools: view.tools,
                prompts: view.prompts,
                resources: view.resources,
                templates: view.templates,
            };
            self.sessions.lists_changed(view.profile.as_ref(), lists);
            let lists = Lists::of([
                (view.tools, Lists::TOOLS),
                (view.prompts, Lists::PROMPTS),
                (view.resources || view.templates, Lists::RESOURCES),
            ]);
            self.hub.lists_changed(view.profile.as_ref(), lists);
        }
    }
}
