//! The actor of one task that is not over.
use super::messages::*;
use actix::prelude::*;
#[derive(Debug)]
pub(super) struct TaskActor;
impl Actor for TaskActor {
    type Context = Context<Self>;
}
impl Handler<Cancel> for TaskActor {
    type Result = ();
    fn handle(&mut self, _: Cancel, _: &mut Self::Context) {
        todo!()
    }
}
impl Handler<Update> for TaskActor {
    type Result = ();
    fn handle(&mut self, _: Update, _: &mut Self::Context) {
        todo!()
    }
}
impl Handler<Attach> for TaskActor {
    type Result = Option<super::handle::Attached>;
    fn handle(&mut self, _: Attach, _: &mut Self::Context) -> Self::Result {
        todo!()
    }
}
