//! What a task asks of the client, and by which way the questions go.
//!
//! Always: a task is `input_required` exactly while something is asked; a key names one question for the life of the task; in the
//! core dialect one stream at a time carries the questions, and they go on to another when it ends.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::task::{Answer, Question, Task};
use super::view::{Audience, Status};
use crate::demo::call::Stop;
use crate::demo::input::Input;
use crate::demo::outlet::Outlet;
use crate::demo::wire::Object;

impl Task {
    /// Asks these things at once and waits for all answers.
    pub(crate) async fn ask(&self, inputs: &[(&str, Input)]) -> Result<Object, Stop> {
        let mut waiting = Vec::new();
        {
            let mut state = self.state();
            if state.status.is_final() {
                return Err(over());
            }
            for (key, input) in inputs {
                let (reply, answer) = oneshot::channel();
                let question = Question { input: input.clone(), carried_by: None, reply };
                let unique = unused(&mut state.keys_used, key);
                state.questions.insert(unique, question);
                waiting.push(async move {
                    let answer = answer.await.map_err(|_| over())?;
                    let answer = answer
                        .map_err(|fault| Stop::Failed(format!("the client refused: {}", fault.message)))?;
                    if !input.is_answered_by(&answer) {
                        return Err(Stop::Failed(format!(
                            "the client's answer to {} is malformed",
                            input.method
                        )));
                    }
                    Ok(((*key).to_owned(), answer))
                });
            }
            state.status = Status::InputRequired;
            self.touched(&mut state);
        }
        Ok(try_join_all(waiting).await?.into_iter().collect())
    }

    /// Gives an answer to the question of that key, if it still waits.
    pub(super) fn answer(&self, key: &str, answer: Answer) {
        let mut state = self.state();
        let Some(question) = state.questions.remove(key) else { return };
        if state.questions.is_empty() {
            state.status = Status::Working;
        }
        self.touched(&mut state);
        // The work may have gone on without it.
        let _ = question.reply.send(answer);
    }

    /// A `tasks/result` stream, which from now on carries what the task asks and tells.
    pub(super) fn open_stream(self: &Arc<Self>, outlet: &Outlet) -> Stream {
        let mut state = self.state();
        state.streams_opened += 1;
        let number = state.streams_opened;
        state.streams.push((number, outlet.clone()));
        self.wake();
        Stream { task: Arc::clone(self), number }
    }

    /// Where messages about the task go: the newest `tasks/result`, else the session's standing stream.
    pub(crate) fn outlet(&self) -> Outlet {
        if let Some((_, outlet)) = self.state().streams.last() {
            return outlet.clone();
        }
        match &self.audience {
            Audience::Session(session) => session.upgrade().map_or(Outlet::Nowhere, |it| it.standing.clone()),
            Audience::Listeners(_) => Outlet::Nowhere,
        }
    }
}

fn over() -> Stop {
    Stop::Failed("the task was over before the client answered".to_owned())
}

fn unused(used: &mut HashSet<String>, key: &str) -> String {
    let unique = (1u64..)
        .map(|number| if number == 1 { key.to_owned() } else { format!("{key}-{number}") })
        .find(|candidate| !used.contains(candidate))
        .unwrap_or_default();
    used.insert(unique.clone());
    unique
}

/// A `tasks/result` that is open. The newest one carries the questions; an older one takes them over when it ends.
#[derive(Debug)]
pub(super) struct Stream {
    task: Arc<Task>,
    number: u64,
}

impl Stream {
    /// Whether questions travel here.
    pub(super) fn carries(&self) -> bool {
        self.task.state().streams.last().is_some_and(|(number, _)| *number == self.number)
    }

    /// Questions that were not put here yet.
    pub(super) fn take_questions(&self) -> Vec<(String, Input)> {
        let mut state = self.task.state();
        if state.streams.last().is_none_or(|(number, _)| *number != self.number) {
            return Vec::new();
        }
        let open = state.questions.iter_mut().filter(|(_, asked)| asked.carried_by != Some(self.number));
        open.map(|(key, asked)| {
            asked.carried_by = Some(self.number);
            (key.clone(), asked.input.clone())
        })
        .collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.state().streams.retain(|(number, _)| *number != self.number);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use serde_json::json;

    use super::*;

    fn asking() -> (Arc<Task>, tokio::task::JoinHandle<Result<Object, Stop>>) {
        let task = Task::new("id".to_owned(), 1, 60_000, Audience::Session(Weak::new()), false);
        let asked = Arc::clone(&task);
        let inputs =
            [("name", Input::text_field("Name?", "name")), ("age", Input::text_field("Age?", "age"))];
        (task, tokio::spawn(async move { asked.ask(&inputs).await }))
    }

    async fn until_asked(task: &Task) {
        let mut changes = task.watch();
        while task.view().questions.is_empty() {
            changes.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_task_asks_until_the_last_answer() {
        let (task, work) = asking();
        until_asked(&task).await;
        task.answer("age", Ok(json!({"action": "decline"})));
        assert_eq!(task.view().status, Status::InputRequired);
        task.answer("age", Ok(json!({"action": "accept"})));
        task.answer("name", Ok(json!({"action": "cancel"})));
        assert_eq!(task.view().status, Status::Working);
        let answers = work.await.unwrap().unwrap();
        assert_eq!(answers["age"]["action"], "decline", "the first answer counts");
    }

    #[tokio::test]
    async fn the_newest_stream_carries_the_questions_and_leaves_them_to_the_one_before() {
        let (task, _work) = asking();
        until_asked(&task).await;
        let first = task.open_stream(&Outlet::Nowhere);
        assert_eq!((first.take_questions().len(), first.take_questions().len()), (2, 0));
        let second = task.open_stream(&Outlet::Nowhere);
        assert!(second.carries() && !first.carries());
        assert_eq!((first.take_questions().len(), second.take_questions().len()), (0, 2));
        drop(second);
        assert_eq!(first.take_questions().len(), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_answers_to_a_task_that_is_over() {
        let (task, work) = asking();
        until_asked(&task).await;
        task.cancel("enough");
        assert!(task.view().questions.is_empty());
        assert!(matches!(work.await.unwrap(), Err(Stop::Failed(_))));
        assert!(task.ask(&[("more", Input::roots())]).await.is_err());
    }

    #[test]
    fn s_tx_06_a_key_is_used_once() {
        let mut used = HashSet::new();
        assert_eq!(["a", "a", "b", "a"].map(|key| unused(&mut used, key)), ["a", "a-2", "b", "a-3"]);
    }
}
