//! Tasks of an upstream, from the call that makes one to the end of its place, against a server that the story plays.

pub(super) mod stage;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use self::stage::{Person, Server, about, call, patiently, session, task, upstream};
use super::call::{Affinity, CallEvent};
use super::error::UpstreamError;
use super::events::event_queue;
use super::handle::UpstreamHandle;
use super::input::Reply;
use crate::policy::Policy;
use crate::protocol::frame::Answer;
use crate::protocol::method::Method;
use crate::protocol::task::{Dialect, Status};

const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A client that can be asked.
pub(super) fn somebody() -> super::call::ClientPort {
    super::call::ClientPort::new(Person::default())
}

async fn on_stage(story: impl AsyncFnOnce(Server, UpstreamHandle)) {
    LocalSet::new()
        .run_until(async {
            let server = Server::start().await;
            let upstream = upstream(&server).await;
            story(server, upstream).await;
        })
        .await;
}

#[tokio::test]
async fn s_task_02_a_wish_is_told_and_a_place_leads_back() {
    on_stage(async |server, upstream| {
        let client = Person::default().client(session());
        let making = call(&upstream, &client, None, true);
        let serving = async {
            let arrived = server.next("tools/call").await;
            assert_eq!(arrived.params()["task"], json!({ "ttl": 5000 }));
            arrived.becomes("t");
        };
        let (reply, ()) = tokio::join!(making, serving);
        let Reply::Task(created) = reply.expect("answered") else { panic!("it became a task") };
        assert_eq!((created.facts.status, created.facts.ttl_ms), (Status::Working, Some(1000)));
        assert_eq!((created.place.dialect(), created.place.id()), (Dialect::Core, "t"));
        let looking = about(&upstream, &client, &created.place, Method::GetTask);
        let serving = async { server.next("tasks/get").await.answer(json!({ "taskId": "t" })) };
        let (answer, ()) = tokio::join!(looking, serving);
        assert!(
            matches!(answer, Ok(Answer::Result(result)) if result.text("taskId").as_deref() == Some("t"))
        );
        // A plain call says nothing of tasks.
        let plain = call(&upstream, &client, None, false);
        let serving = async {
            let arrived = server.next("tools/call").await;
            assert_eq!(arrived.params().get("task"), None);
            arrived.answer(json!({ "content": [] }));
        };
        let (reply, ()) = tokio::join!(plain, serving);
        assert!(matches!(reply, Ok(Reply::Final(_))));
    })
    .await;
}

#[tokio::test]
async fn s_task_16_a_question_goes_to_its_tasks_client_whenever_it_comes() {
    on_stage(async |server, upstream| {
        let person = Person::default();
        let client = person.client(session());
        // Before the answer that makes the task, on another stream.
        let making = call(&upstream, &client, None, true);
        let serving = async {
            let arrived = server.next("tools/call").await;
            let session = arrived.session.clone();
            server.ask(&session, "early", Some("t")).await;
            server.ask(&session, "stray", Some("u")).await;
            arrived.becomes("t");
            session
        };
        let (reply, session) = tokio::join!(making, serving);
        let Ok(Reply::Task(created)) = reply else { panic!("it became a task") };
        let answer = server.answer_to("early").await;
        assert_eq!(answer["result"]["action"], "accept");
        assert_eq!(answer["result"]["_meta"][RELATED]["taskId"], "t", "S-TASK-16");
        assert_eq!(person.last()["_meta"], json!({ "a/b": 1 }), "the upstream's id stays on its hop");
        let stray = server.answer_to("stray").await;
        assert_eq!(stray["result"]["action"], "cancel", "of a task that nobody has");
        // Long after the call.
        server.ask(&session, "later", Some("t")).await;
        assert_eq!(server.answer_to("later").await["result"]["action"], "accept");
        assert_eq!(person.shown(), ["early", "later"]);
        drop(created);
        server.ask(&session, "too late", Some("t")).await;
        assert_eq!(server.answer_to("too late").await["result"]["action"], "cancel");
    })
    .await;
}

#[tokio::test]
async fn s_elic_11_where_tasks_are_about_a_question_that_names_none_is_never_guessed() {
    on_stage(async |server, upstream| {
        let (owner, caller) = (Person::default(), Person::default());
        let client = owner.client(session());
        let (_created, session) = task(&server, &upstream, &client, "t").await;
        server.ask(&session, "alone", None).await;
        let answer = server.answer_to("alone").await;
        assert_eq!(answer["result"]["action"], "accept", "only the task can be meant");
        assert_eq!(answer["result"]["_meta"][RELATED]["taskId"], "t");
        // The same session, asked in another way: it is one client, and what a task asks names the task.
        let other = caller.client(client.affinity);
        let calling = call(&upstream, &other, None, false);
        let serving = async {
            let arrived = server.next("tools/call").await;
            server.ask(&session, "of the call", None).await;
            let answer = server.answer_to("of the call").await;
            assert_eq!(answer["result"]["action"], "accept");
            assert!(answer["result"]["_meta"].is_null(), "of no task: {answer}");
            server.ask(&session, "clear", Some("t")).await;
            assert_eq!(server.answer_to("clear").await["result"]["action"], "accept");
            arrived.answer(json!({ "content": [] }));
        };
        let (reply, ()) = tokio::join!(calling, serving);
        assert!(reply.is_ok());
        assert_eq!(owner.shown(), ["alone", "clear"]);
        assert_eq!(caller.shown(), ["of the call"], "an ordinary call is never asked for a task");
    })
    .await;
}

#[tokio::test]
async fn s_task_17_tasks_of_callers_without_a_session_share_a_connection_and_wait_for_nobody() {
    on_stage(async |server, upstream| {
        let people: Vec<Person> = (0..20).map(|_| Person::default()).collect();
        let mut places = Vec::new();
        let mut sessions = std::collections::HashSet::new();
        for (n, person) in people.iter().enumerate() {
            let client = person.client(Affinity::of_one_call());
            let (created, session) = task(&server, &upstream, &client, &format!("t{n}")).await;
            places.push((created, client));
            sessions.insert(session);
        }
        assert_eq!(sessions.len(), 1, "one connection for all");
        let session = sessions.into_iter().next().expect("one");
        for (n, person) in people.iter().enumerate().rev() {
            server.ask(&session, &format!("q{n}"), Some(&format!("t{n}"))).await;
            assert_eq!(server.answer_to(&format!("q{n}")).await["result"]["action"], "accept");
            assert_eq!(person.shown(), [format!("q{n}")]);
        }
        server.ask(&session, "whose", None).await;
        assert_eq!(server.answer_to("whose").await["result"]["action"], "cancel");
    })
    .await;
}

#[tokio::test]
async fn s_task_17_who_takes_a_task_over_is_asked_from_then_on() {
    on_stage(async |server, upstream| {
        let (caller, keeper) = (Person::default(), Person::default());
        let client = caller.client(session());
        let (created, session) = task(&server, &upstream, &client, "t").await;
        let other = keeper.client(client.affinity);
        created.place.belongs_to(&other, None);
        server.ask(&session, "q", Some("t")).await;
        assert_eq!(server.answer_to("q").await["result"]["action"], "accept");
        assert!(caller.shown().is_empty() && keeper.shown() == ["q"]);
    })
    .await;
}

#[tokio::test]
async fn s_task_18_what_is_told_of_a_task_reaches_its_place_and_progress_its_caller() {
    on_stage(async |server, upstream| {
        let client = Person::default().client(session());
        let (sink, mut events) = event_queue(8);
        let making = call(&upstream, &client, Some(sink), true);
        let serving = async {
            let arrived = server.next("tools/call").await;
            let told = (arrived.session.clone(), arrived.params()["_meta"]["progressToken"].clone());
            arrived.becomes("t");
            told
        };
        let (reply, (session, token)) = tokio::join!(making, serving);
        let Ok(Reply::Task(created)) = reply else { panic!("it became a task") };
        let tell = async |method: &str, params: Value| {
            server.say(&session, json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
        };
        tell("notifications/progress", json!({ "progressToken": token, "progress": 1 })).await;
        let log = json!({ "level": "info", "data": "x", "_meta": { RELATED: { "taskId": "t" } } });
        tell("notifications/message", log).await;
        for status in ["working", "input_required"] {
            tell("notifications/tasks/status", json!({ "taskId": "t", "status": status, "ttl": null })).await;
        }
        patiently("the last word", async {
            while created.place.changed().await.expect("it is told").status != Status::InputRequired {}
        })
        .await;
        assert!(matches!(events.try_recv(), Some(CallEvent::Progress(_))));
        let Some(CallEvent::Log(_, log)) = events.try_recv() else { panic!("the log line is its own") };
        assert!(log.meta(RELATED).is_none());
        upstream.retire().await;
        assert!(created.place.changed().await.is_none() && created.place.has_ended());
        assert!(server.deleted().iter().all(|ended| *ended != session), "its task goes on without us");
    })
    .await;
}

#[tokio::test]
async fn s_task_21_a_place_outlives_its_session_and_its_connection_ends_with_the_last_place() {
    on_stage(async |server, upstream| {
        let person = Person::default();
        let client = person.client(session());
        let (created, session) = task(&server, &upstream, &client, "t").await;
        client.closed.cancel();
        upstream.release(client.affinity);
        server.ask(&session, "still", Some("t")).await;
        assert_eq!(server.answer_to("still").await["result"]["action"], "accept");
        let looking = about(&upstream, &client, &created.place, Method::GetTask);
        let serving = async { server.next("tasks/get").await.answer(json!({ "taskId": "t" })) };
        assert!(tokio::join!(looking, serving).0.is_ok());
        assert!(!created.place.has_ended() && server.deleted().is_empty());
        drop(created);
        server.until_deleted(&session).await;
    })
    .await;
}

#[tokio::test]
async fn s_task_21_after_a_restart_the_session_that_made_a_task_is_taken_up() {
    on_stage(async |server, upstream| {
        let person = Person::default();
        let (created, session) = task(&server, &upstream, &person.client(stage::session()), "t").await;
        let kept = created.place.kept();
        let text = serde_json::to_string(&kept).expect("it can be written");
        assert_eq!(serde_json::from_str::<super::task::KeptPlace>(&text).expect("and read"), kept);
        // The process ends, and another one comes.
        upstream.retire().await;
        drop(created);
        let upstream = stage::upstream(&server).await;
        let before = server.sessions();
        let client = person.client(stage::session());
        let permit = || Policy::default().authorise(client.principal, upstream.name());
        let found = patiently("the place", upstream.task_place(permit(), &kept, "t", &client)).await;
        let found = found.expect("it is there");
        let second = patiently("the place", upstream.task_place(permit(), &kept, "u", &client)).await;
        assert_eq!(second.expect("another of the same session").kept(), kept);
        assert_eq!((server.sessions(), &found.kept()), (before, &kept), "no session was opened");
        let looking = about(&upstream, &client, &found, Method::GetTask);
        let serving = async {
            let arrived = server.next("tasks/get").await;
            assert_eq!(arrived.session, session);
            arrived.answer(json!({ "taskId": "t" }));
        };
        assert!(tokio::join!(looking, serving).0.is_ok());
        server.ask(&session, "again", Some("t")).await;
        assert_eq!(server.answer_to("again").await["result"]["action"], "accept");

        // A server that was restarted as well has forgotten it: whether it knows the task, it may still tell.
        server.forget_sessions();
        let found = patiently("the place", upstream.task_place(permit(), &kept, "v", &client)).await;
        let found = found.expect("a new session");
        assert_ne!(found.kept().session.as_deref(), Some(&*session));
        // Where the id is another's by now, there is nothing to wait for.
        let other = patiently("the place", upstream.task_place(permit(), &kept, "v", &client)).await;
        assert!(matches!(other, Err(UpstreamError::Lost { .. })), "{other:?}");
    })
    .await;
}

#[tokio::test]
async fn s_task_15_a_task_is_cancelled_whose_caller_left_before_it_was_there() {
    on_stage(async |server, upstream| {
        let client = Person::default().client(session());
        let (first, session) = task(&server, &upstream, &client, "t").await;
        // An id that is another's makes no task of its own.
        let making = call(&upstream, &client, None, true);
        let serving = async { server.next("tools/call").await.becomes("t") };
        let (reply, ()) = tokio::join!(making, serving);
        assert!(reply.is_err_and(|error| error.to_string().contains("the id of another")));
        // Its caller leaves; the answer comes on another stream.
        let id = {
            let making = call(&upstream, &client, None, true);
            let serving = server.next("tools/call");
            tokio::pin!(making);
            let arrived = tokio::select! {
                arrived = serving => arrived,
                _ = &mut making => panic!("nobody answered"),
            };
            arrived.message["id"].clone()
        };
        let late = json!({ "task": { "taskId": "late", "status": "working", "ttl": null } });
        server.say(&session, json!({ "jsonrpc": "2.0", "id": id, "result": late })).await;
        let cancelled = server.next("tasks/cancel").await;
        assert_eq!(cancelled.params()["taskId"], "late");
        drop(first);
    })
    .await;
}
