//! The admin listener: health, readiness, and what an operator may look at.
//!
//! Always: nothing here is reachable on the data listener, and no secret, argument or whole session id is shown; looking
//! changes no state, and what does (the cancellation of a task) is out of reach for web pages: every request passes the
//! guard of `Host` and `Origin`, and those that change something need what a page of another site cannot send (`tasks`).
//! Not here: the web interface, which comes with operations.

mod metrics;
mod tasks;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::catalog::handle::CatalogueHandle;
use crate::catalog::listing::ListKind;
use crate::catalog::snapshot::Freshness;
use crate::downstream::Edge;
use crate::downstream::guard::Guard;
use crate::session::SessionTable;
use crate::tasks::TaskRegistry;
use crate::upstream::fleet::Fleet;
use crate::upstream::{State, Status};

/// What the endpoints look at.
#[derive(Debug)]
pub struct Inspection {
    /// Upstreams.
    pub fleet: Arc<Fleet>,
    /// What is offered.
    pub catalogue: CatalogueHandle,
    /// Sessions.
    pub sessions: Arc<SessionTable>,
    /// Tasks.
    pub tasks: Arc<TaskRegistry>,
    /// Whether the gateway is draining.
    pub edge: Arc<Edge>,
    /// Who may ask.
    pub guard: Guard,
}

/// The routes of the admin listener.
pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("")
            .wrap(from_fn(guarded))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics::metrics))
            .route("/api/v1/servers", web::get().to(servers))
            .route("/api/v1/tools", web::get().to(tools))
            .route("/api/v1/sessions", web::get().to(sessions))
            .route("/api/v1/tasks", web::get().to(tasks::list))
            .route("/api/v1/tasks/{task}", web::get().to(tasks::get))
            .route("/api/v1/tasks/{task}/result", web::get().to(tasks::result))
            .route("/api/v1/tasks/{task}/watch", web::get().to(tasks::watch))
            .route("/api/v1/tasks/{task}/cancel", web::post().to(tasks::cancel)),
    );
}

async fn guarded(
    request: actix_web::dev::ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let verdict = {
        let headers = request.headers();
        let host = headers.get("host").map(HeaderValue::as_bytes);
        let origins = headers.get_all("origin").map(HeaderValue::as_bytes);
        let inspection = request.app_data::<Data<Inspection>>();
        inspection.map(|inspection| inspection.guard.judge(host, origins).map(|_| ()))
    };
    match verdict {
        Some(Ok(())) => Ok(next.call(request).await?.map_into_left_body()),
        Some(Err(refusal)) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
            let refused = HttpResponse::build(status).body(refusal.to_string());
            Ok(request.into_response(refused).map_into_right_body())
        }
        None => Ok(request.into_response(HttpResponse::InternalServerError()).map_into_right_body()),
    }
}

/// The process answers: that is all.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().body("ok")
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    servers_ready: usize,
    servers: usize,
}

/// Ready for traffic unless draining: upstreams that are down make answers poorer, not wrong (F13).
async fn readyz(inspection: Data<Inspection>) -> HttpResponse {
    let servers = inspection.fleet.iter().count();
    let is_ready = |state| matches!(state, State::Ready | State::Idle);
    let servers_ready = inspection.fleet.iter().filter(|upstream| is_ready(upstream.state())).count();
    let ready = !inspection.edge.is_draining();
    let body = Readiness { ready, servers_ready, servers };
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

#[derive(Serialize)]
struct ServerRow {
    #[serde(flatten)]
    status: Status,
    /// `awaited`, `present`, `stale` or `absent`.
    lists: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templates: Option<usize>,
    /// Items and lists that clients do not see whole, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

async fn servers(inspection: Data<Inspection>) -> HttpResponse {
    let snapshot = inspection.catalogue.current();
    let everything = snapshot.view(None).cloned();
    let rows: Vec<ServerRow> = inspection
        .fleet
        .iter()
        .map(|upstream| {
            let report = snapshot.upstreams().iter().find(|report| report.upstream == *upstream.name());
            let counts = report.map(|report| report.counts).unwrap_or_default();
            let mut problems: Vec<String> = Vec::new();
            if let Some(report) = report {
                problems.extend(report.left_out.iter().map(|left| format!("{}: {}", left.name, left.reason)));
                problems.extend(report.partial.iter().map(|(_, partial)| partial.to_string()));
            }
            if let Some(view) = &everything {
                let own = view.left_out().iter().filter(|(name, _)| name == upstream.name());
                problems.extend(own.map(|(_, left)| format!("{}: {}", left.name, left.reason)));
            }
            ServerRow {
                status: upstream.status(),
                lists: match report.map(|report| report.freshness) {
                    None | Some(Freshness::Awaited) => "awaited",
                    Some(Freshness::Present) => "present",
                    Some(Freshness::Stale) => "stale",
                    Some(Freshness::Absent) => "absent",
                },
                tools: counts[ListKind::Tools.index()],
                prompts: counts[ListKind::Prompts.index()],
                resources: counts[ListKind::Resources.index()],
                templates: counts[ListKind::Templates.index()],
                problems,
            }
        })
        .collect();
    HttpResponse::Ok().json(rows)
}

#[derive(Serialize)]
struct ToolRow {
    name: String,
    server: String,
    original: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

async fn tools(inspection: Data<Inspection>, request: HttpRequest) -> HttpResponse {
    let profile = profile_of(request.query_string());
    let snapshot = inspection.catalogue.current();
    let Some(view) = snapshot.view(profile) else {
        return HttpResponse::NotFound().body("no such profile");
    };
    let rows: Vec<ToolRow> = view
        .list(ListKind::Tools)
        .entries
        .iter()
        .map(|route| ToolRow {
            name: route.public.to_string(),
            server: route.upstream.to_string(),
            original: route.local.to_string(),
            description: route.item.object.text("description").map(|text| text.into_owned()),
        })
        .collect();
    HttpResponse::Ok().json(rows)
}

fn profile_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("profile="))
}

async fn sessions(inspection: Data<Inspection>) -> HttpResponse {
    HttpResponse::Ok().json(inspection.sessions.statuses())
}
