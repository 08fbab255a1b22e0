//! Questions on their way to a client that comes and goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::LocalSet;

use super::*;
use crate::parked::tests::{FORM, asked, object};
use crate::upstream::events::{Events, Readership, event_queue};

/// A session as questions see it. Everything happens on one thread.
#[derive(Default)]
struct Session {
    last: u64,
    open: BTreeMap<u64, (AskClient, oneshot::Sender<Answer>, CancellationToken)>,
    withdrawn: Vec<u64>,
    has_ended: bool,
}

struct SessionPort(Arc<Mutex<Session>>);

impl Reach for SessionPort {
    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        let mut session = self.0.lock().expect("one thread");
        if session.has_ended {
            return std::future::ready(Err(QuestionRefused::Gone)).boxed_local();
        }
        session.last += 1;
        let (number, lost) = (session.last, CancellationToken::new());
        let (answer, answered) = oneshot::channel();
        session.open.insert(number, (asked, answer, lost.clone()));
        let progress = watch::channel(None).1;
        std::future::ready(Ok(Question { number, answer: answered, progress, lost })).boxed_local()
    }

    fn withdraw(&self, number: u64) {
        let mut session = self.0.lock().expect("one thread");
        session.open.remove(&number);
        session.withdrawn.push(number);
    }

    fn tell(&self, _: TellClient) -> bool {
        true
    }

    fn admits_log(&self, _: &UpstreamName, _: &Object) -> bool {
        false
    }
}

fn session() -> (Arc<Mutex<Session>>, ClientPort) {
    let session = Arc::<Mutex<Session>>::default();
    (Arc::clone(&session), ClientPort::new(SessionPort(session)))
}

fn way(port: &ClientPort) -> (Way, Events) {
    let (stream, events) = event_queue(4);
    (Way { port: port.clone(), stream }, events)
}

fn carried(capabilities: &str, standing: Option<Standing>) -> Arc<CarriedInputs> {
    let revision = Revision::V2025_11_25;
    let capabilities = ClientCapabilities::of(&object(capabilities), revision);
    let inputs = CarriedInputs::new(revision, capabilities, standing);
    inputs.name("public");
    inputs
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// The question that the session has, once it has one.
async fn put(session: &Arc<Mutex<Session>>) -> u64 {
    until("a question is put", || session.lock().expect("one thread").open.keys().next().copied()).await
}

fn accept(session: &Arc<Mutex<Session>>, number: u64, text: &str) {
    let (_, answer, _) = session.lock().expect("one thread").open.remove(&number).expect("it is open");
    answer.send(Answer::Result(object(text))).expect("somebody waits");
}

const DECLARED: &str = r#"{"elicitation":{}}"#;

#[tokio::test]
async fn s_task_17_a_question_waits_for_an_open_result_and_goes_out_on_it_with_the_id_of_its_task() {
    let story = async {
        let inputs = carried(DECLARED, None);
        let mut question = inputs.pose(asked("elicitation/create", FORM)).expect("declared");
        assert!(inputs.are_open());
        let (session, port) = session();
        let (way, _events) = way(&port);
        let stream = way.stream.clone();
        let attached = inputs.attach(way);
        let number = put(&session).await;
        {
            let session = session.lock().expect("one thread");
            let (asked, ..) = &session.open[&number];
            assert_eq!(asked.task.as_deref(), Some("public"), "S-TASK-16");
            assert!(asked.stream.as_ref().is_some_and(|own| own.is(&stream)) && asked.otherwise.is_none());
        }
        assert!(question.answer.try_recv().is_err());
        let answer = format!(r#"{{"action":"decline","_meta":{{"{RELATED_TASK}":{{"taskId":"public"}}}}}}"#);
        accept(&session, number, &answer);
        let Ok(Answer::Result(result)) = question.answer.await else { panic!("an answer") };
        assert!(result.meta(RELATED_TASK).is_none(), "the id of this hop stays on it");
        until("nothing is asked", || (!inputs.are_open()).then_some(())).await;
        drop(attached);
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test]
async fn s_task_17_a_lost_question_is_put_again_and_the_standing_stream_serves_while_it_is_read() {
    let story = async {
        let (session, port) = session();
        let is_open = Arc::new(AtomicBool::new(false));
        let looked = Arc::clone(&is_open);
        let standing =
            Standing { port: port.clone(), is_open: Arc::new(move || looked.load(Ordering::Relaxed)) };
        let inputs = carried(DECLARED, Some(standing));
        let question = inputs.pose(asked("elicitation/create", FORM)).expect("declared");
        let (result, _events) = way(&port);
        let attached = inputs.attach(result);
        let first = put(&session).await;
        // Its stream breaks before it was read.
        drop(attached);
        session.lock().expect("one thread").open[&first].2.cancel();
        until("it is no longer there", || {
            session.lock().expect("one thread").withdrawn.contains(&first).then_some(())
        })
        .await;
        assert!(inputs.are_open(), "it is asked all the same");
        is_open.store(true, Ordering::Relaxed);
        let second = put(&session).await;
        assert!(second != first && session.lock().expect("one thread").open[&second].0.stream.is_none());
        accept(&session, second, r#"{"action":"cancel"}"#);
        assert!(matches!(question.answer.await, Ok(Answer::Result(_))), "answered once");
    };
    LocalSet::new().run_until(story).await;
}

/// Who reads a stream, or does not.
#[derive(Default)]
struct Reader(AtomicBool);

impl Readership for Reader {
    fn is_attended(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A way with a stream that somebody reads.
fn read_way(port: &ClientPort) -> (Way, Events, Arc<Reader>) {
    let (way, events) = way(port);
    let reader = Arc::new(Reader(true.into()));
    let readership: Arc<dyn Readership> = reader.clone();
    events.are_read_by(Arc::downgrade(&readership));
    (way, events, reader)
}

#[tokio::test]
async fn s_task_17_a_question_goes_to_the_newest_that_is_read_and_not_to_who_has_gone() {
    let story = async {
        // Before the answer became a stream, and after.
        for has_stream in [false, true] {
            let inputs = carried(DECLARED, None);
            let (older, port) = session();
            let (result, _events) = way(&port);
            let _attached = inputs.attach(result);
            let (newer, port) = session();
            let (result, events, reader) = read_way(&port);
            let _attached_newer = inputs.attach(result);
            let _events = has_stream.then_some(events);
            reader.0.store(false, Ordering::Relaxed);
            let question = inputs.pose(asked("elicitation/create", FORM)).expect("declared");
            let number = put(&older).await;
            assert_eq!(newer.lock().expect("one thread").last, 0, "nobody is there");
            accept(&older, number, r#"{"action":"cancel"}"#);
            assert!(question.answer.await.is_ok());
        }
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test]
async fn s_task_17_a_question_whose_reader_left_for_good_moves_on_and_waits_for_who_comes_back() {
    let story = async {
        let (standing_session, port) = session();
        let is_open = Arc::new(AtomicBool::new(false));
        let looked = Arc::clone(&is_open);
        let standing = Standing { port, is_open: Arc::new(move || looked.load(Ordering::Relaxed)) };
        let inputs = carried(DECLARED, Some(standing));
        let (waiting, port) = session();
        let (result, _events, reader) = read_way(&port);
        let _attached = inputs.attach(result);
        let question = inputs.pose(asked("elicitation/create", FORM)).expect("declared");
        let first = put(&waiting).await;
        let stays = || {
            let (waiting, standing) = (waiting.lock().expect("one thread"), standing_session.lock());
            assert!(waiting.open.contains_key(&first) && standing.expect("one thread").last == 0);
        };
        // Nobody else is there: it stays where its reader finds it when it comes back.
        reader.0.store(false, Ordering::Relaxed);
        tokio::time::sleep(MAY_COME_BACK + LOOK_AGAIN).await;
        stays();
        reader.0.store(true, Ordering::Relaxed);
        tokio::time::sleep(LOOK_AGAIN * 2).await;
        is_open.store(true, Ordering::Relaxed);
        // Somebody is, but the reader is only away for a moment.
        reader.0.store(false, Ordering::Relaxed);
        tokio::time::sleep(MAY_COME_BACK / 2).await;
        reader.0.store(true, Ordering::Relaxed);
        tokio::time::sleep(LOOK_AGAIN * 2).await;
        stays();
        // And now it has gone.
        reader.0.store(false, Ordering::Relaxed);
        let second = put(&standing_session).await;
        assert_eq!(waiting.lock().expect("one thread").withdrawn, [first], "asked in one place at a time");
        accept(&standing_session, second, r#"{"action":"cancel"}"#);
        assert!(matches!(question.answer.await, Ok(Answer::Result(_))), "answered once");
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test]
async fn s_task_17_a_session_that_ends_leaves_its_question_to_the_next() {
    let story = async {
        let inputs = carried(DECLARED, None);
        let question = inputs.pose(asked("elicitation/create", FORM)).expect("declared");
        let (one, port) = session();
        let (result, _events) = way(&port);
        let _attached = inputs.attach(result);
        put(&one).await;
        {
            let mut ended = one.lock().expect("one thread");
            ended.has_ended = true;
            ended.open.clear();
        }
        let (other, port) = session();
        let (result, _events) = way(&port);
        let _attached = inputs.attach(result);
        let number = put(&other).await;
        accept(&other, number, r#"{"action":"cancel"}"#);
        assert!(question.answer.await.is_ok());
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test]
async fn s_canc_04_what_its_asker_gave_up_is_withdrawn_and_what_is_not_declared_is_refused() {
    let story = async {
        let inputs = carried(DECLARED, None);
        let port = ClientPort::new(inputs.port());
        let refused = port.ask(asked("roots/list", "{}")).await.err();
        assert!(matches!(refused, Some(QuestionRefused::Refused(-32601, _))), "{refused:?}");
        let question = port.ask(asked("elicitation/create", FORM)).await.expect("declared");
        let (session, way_port) = session();
        let (result, _events) = way(&way_port);
        let _attached = inputs.attach(result);
        let number = put(&session).await;
        port.withdraw(question.number);
        until("it is withdrawn", || {
            session.lock().expect("one thread").withdrawn.contains(&number).then_some(())
        })
        .await;
        assert!(!inputs.are_open());
        let many: Vec<_> =
            (0..=AT_ONCE).map(|_| inputs.pose(asked("elicitation/create", FORM)).err()).collect();
        assert_eq!(many.last(), Some(&Some(QuestionRefused::TooMany)));
        inputs.close();
        assert_eq!(
            inputs.pose(asked("elicitation/create", FORM)).err(),
            Some(QuestionRefused::Gone),
            "it is over"
        );
    };
    LocalSet::new().run_until(story).await;
}
