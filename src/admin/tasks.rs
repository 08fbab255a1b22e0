//! Tasks as an operator sees them, and their cancellation: the one thing here that changes state.
//!
//! Always: a row holds no arguments, no results, and no id that a client could use; cancelling takes a `POST` of
//! `application/json` that no page of another site can send: its browser would have to ask first (CORS), and nobody
//! here answers that. Not here: what a task is (`tasks`).

use std::convert::Infallible;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Inspection;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object};
use crate::protocol::sse;
use crate::protocol::task::Status;
use crate::tasks::{Choice, NotCancelled, NotFound, TaskFault, TaskHandle, TaskKey, TaskStatus};

/// Rows of a page unless the request says otherwise, and at most.
const PAGE: (usize, usize) = (100, 1_000);

/// One task.
#[derive(Debug, Serialize)]
struct TaskRow {
    task: String,
    state: &'static str,
    server: String,
    tool: String,
    principal: String,
    endpoint: String,
    /// `linked` to a task of the server's, or `hosted` here.
    kind: &'static str,
    age_seconds: u64,
    ttl_left_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

impl From<TaskStatus> for TaskRow {
    fn from(status: TaskStatus) -> TaskRow {
        TaskRow {
            task: status.task,
            state: status.status,
            server: status.upstream,
            tool: status.tool,
            principal: status.principal,
            endpoint: status.endpoint,
            kind: if status.upstream_task.is_some() { "linked" } else { "hosted" },
            age_seconds: status.age_ms / 1_000,
            ttl_left_seconds: status.ttl_ms.saturating_sub(status.age_ms) / 1_000,
            progress: status.progress.as_deref().and_then(progress),
            trace: status.trace_id,
        }
    }
}

/// The numbers of a progress notification; its words are the server's.
fn progress(params: &str) -> Option<String> {
    let params = Object::parse(Bytes::copy_from_slice(params.as_bytes()), Limits::NONE).ok()?;
    let number = |key: &str| -> Option<String> {
        let raw = std::str::from_utf8(params.get(key)?).ok()?;
        raw.parse::<f64>().ok().map(|number| number.to_string())
    };
    let done = number("progress")?;
    Some(number("total").map_or_else(|| done.clone(), |total| format!("{done}/{total}")))
}

#[derive(Debug, Serialize)]
struct TaskRows {
    tasks: Vec<TaskRow>,
    /// Names the last of them, where others follow.
    next: Option<String>,
}

/// `GET /api/v1/tasks`
pub(super) async fn list(inspection: Data<Inspection>, request: HttpRequest) -> HttpResponse {
    let (choice, after, limit) = match chosen(request.query_string()) {
        Ok(chosen) => chosen,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    match inspection.tasks.survey(&choice, after, limit).await {
        Ok((rows, next)) => HttpResponse::Ok().json(TaskRows {
            tasks: rows.into_iter().map(TaskRow::from).collect(),
            next: next.map(|key| key.text()),
        }),
        Err(fault) => refused(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
    }
}

/// What a query asks for; the error is for people.
fn chosen(query: &str) -> Result<(Choice, Option<TaskKey>, usize), &'static str> {
    let (mut choice, mut after, mut limit) = (Choice::default(), None, PAGE.0);
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "state" => choice.state = Some(Status::of_text(value).ok_or("no such state")?),
            "server" => choice.upstream = Some(value.to_owned()),
            "principal" => choice.principal = Some(value.to_owned()),
            "cursor" => after = Some(TaskKey::of_text(value).ok_or("no such cursor")?),
            "limit" => {
                let asked = value.parse().ok().filter(|limit| (1..=PAGE.1).contains(limit));
                limit = asked.ok_or("limit is a number from 1 to 1000")?;
            }
            _ => {}
        }
    }
    Ok((choice, after, limit))
}

/// `GET /api/v1/tasks/{task}`
pub(super) async fn get(inspection: Data<Inspection>, task: Path<String>) -> HttpResponse {
    match inspection.tasks.numbered(&task).await {
        Ok(task) => row(&task),
        Err(why) => not_found(&why),
    }
}

#[derive(Debug, Serialize)]
struct Ended {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
}

/// `GET /api/v1/tasks/{task}/result`: what the call gave, as its server wrote it.
pub(super) async fn result(inspection: Data<Inspection>, task: Path<String>) -> HttpResponse {
    let task = match inspection.tasks.numbered(&task).await {
        Ok(task) => task,
        Err(why) => return not_found(&why),
    };
    let view = match task.read().await {
        Ok(view) if view.is_over() => view,
        Ok(_) => return refused(StatusCode::CONFLICT, "the task is not over"),
        Err(fault) => return faulty(&fault),
    };
    let raw =
        |object: &Object| RawValue::from_string(String::from_utf8_lossy(object.as_bytes()).into_owned()).ok();
    let (result, error) = match view.ending.as_deref().map(|ending| ending.answer.clone()) {
        Some(Answer::Result(result)) => (raw(&result), None),
        Some(Answer::Error(error)) => (None, raw(&error.object)),
        None => (None, None),
    };
    HttpResponse::Ok().json(Ended { state: view.record.status.text(), result, error })
}

/// `POST /api/v1/tasks/{task}/cancel`
pub(super) async fn cancel(
    inspection: Data<Inspection>,
    request: HttpRequest,
    task: Path<String>,
) -> HttpResponse {
    if let Err((status, why)) = may_change(&request) {
        return refused(status, why);
    }
    let task = match inspection.tasks.numbered(&task).await {
        Ok(task) => task,
        Err(why) => return not_found(&why),
    };
    match task.cancel().await {
        Ok(_) => match inspection.tasks.find_by_key(task.view().key).await {
            Ok(task) => row(&task),
            Err(fault) => faulty(&fault),
        },
        Err(NotCancelled::AlreadyOver(_)) => refused(StatusCode::CONFLICT, "the task is over already"),
        Err(NotCancelled::Fault(fault)) => faulty(&fault),
    }
}

/// `Host` and `Origin` were judged before. What a page can send without being asked is refused too: forms and plain text,
/// and whatever the browser says comes from another site.
fn may_change(request: &HttpRequest) -> Result<(), (StatusCode, &'static str)> {
    let header = |name: &str| request.headers().get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = header("content-type").split(|byte| *byte == b';').next().unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type has to be application/json"));
    }
    match header("sec-fetch-site") {
        b"" | b"none" | b"same-origin" => Ok(()),
        _ => Err((StatusCode::FORBIDDEN, "a page of another site may not do this")),
    }
}

/// `GET /api/v1/tasks/{task}/watch`: the row now and after each change, until the task is over.
pub(super) async fn watch(inspection: Data<Inspection>, task: Path<String>) -> HttpResponse {
    let task = match inspection.tasks.numbered(&task).await {
        Ok(task) => task,
        Err(why) => return not_found(&why),
    };
    let changes = task.changes();
    let rows = stream::unfold((task, changes, true), |(task, mut changes, is_first)| async move {
        if !is_first {
            changes.as_mut()?.changed().await.ok()?;
        }
        let changes = changes.filter(|changes| !changes.clone().borrow_and_update().is_over());
        let row = serde_json::to_vec(&TaskRow::from(task.status())).ok()?;
        let mut event = Vec::new();
        sse::write_event(&mut event, None, Some("task"), &row);
        Some((Ok::<Bytes, Infallible>(event.into()), (task, changes, false)))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(rows)
}

fn row(task: &TaskHandle) -> HttpResponse {
    HttpResponse::Ok().json(TaskRow::from(task.status()))
}

#[derive(Debug, Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

fn refused(status: StatusCode, why: &str) -> HttpResponse {
    HttpResponse::build(status).json(Refusal { error: why })
}

fn not_found(why: &NotFound) -> HttpResponse {
    let status = match why {
        NotFound::None => StatusCode::NOT_FOUND,
        NotFound::Several => StatusCode::CONFLICT,
        NotFound::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refused(status, &why.to_string())
}

fn faulty(fault: &TaskFault) -> HttpResponse {
    let status = match fault {
        TaskFault::Unknown => StatusCode::NOT_FOUND,
        TaskFault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refused(status, &fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_by_its_numbers() {
        for (params, told) in [
            (r#"{"progressToken":1,"progress":3,"total":10,"message":"secret"}"#, Some("3/10")),
            (r#"{"progress":0.5}"#, Some("0.5")),
            (r#"{"progress":"x"}"#, None),
            ("x", None),
        ] {
            assert_eq!(progress(params).as_deref(), told, "{params}");
        }
    }

    #[test]
    fn a_query_is_read_whole_or_refused() {
        let key = "0".repeat(48);
        let (choice, after, limit) =
            chosen(&format!("state=working&server=a&principal=p&limit=7&cursor={key}&more=1")).expect("read");
        assert_eq!(choice.state, Some(Status::Working));
        assert_eq!((choice.upstream.as_deref(), choice.principal.as_deref()), (Some("a"), Some("p")));
        assert_eq!((after.map(|key| key.text()), limit), (Some(key), 7));
        assert!(chosen("").is_ok_and(|(_, after, limit)| after.is_none() && limit == PAGE.0));
        for wrong in ["state=odd", "limit=0", "limit=1001", "cursor=1"] {
            assert!(chosen(wrong).is_err(), "{wrong}");
        }
    }
}
