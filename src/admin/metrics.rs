//! `/metrics`: what can be counted, in the text form that Prometheus reads.
//!
//! Always: names begin with `switchyard_`; labels are names of the configuration and words of this list, nothing that a
//! client or server wrote. Made anew for each scrape, from counters that are kept anyway.

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;

use super::Inspection;
use crate::upstream::State;

/// Answers a scrape.
pub(super) async fn metrics(inspection: Data<Inspection>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(text(&inspection))
}

/// One kind of figure and its values, each with its labels.
struct Family<'f> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    values: Vec<(Vec<(&'static str, &'f str)>, u64)>,
}

impl Family<'_> {
    fn write(&self, out: &mut String) {
        let Family { name, kind, help, values } = self;
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP switchyard_{name} {help}\n# TYPE switchyard_{name} {kind}\n");
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "switchyard_{name}{labels} {value}");
        }
    }
}

/// A label's value, whatever is in it.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn text(inspection: &Inspection) -> String {
    let (lists, reads) = (inspection.catalogue.counts(), inspection.fleet.reads().counts());
    let tasks = inspection.tasks.counts();
    let by_state = |values: &[(&'static str, u64)]| -> Vec<_> {
        values.iter().map(|(state, value)| (vec![("state", *state)], *value)).collect()
    };
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let of_caches = |of_lists: u64, of_reads: u64| {
        vec![(vec![("cache", "lists")], of_lists), (vec![("cache", "resources")], of_reads)]
    };
    let alone = |value: u64| vec![(Vec::new(), value)];
    let family = |name, kind, help, values| Family { name, kind, help, values };
    let states = inspection.fleet.iter().flat_map(|upstream| {
        let current = upstream.state();
        STATES.map(|(word, is)| {
            (vec![("upstream", upstream.name().as_str()), ("state", word)], u64::from(is(&current)))
        })
    });
    let families = [
        family(
            "cache_hits_total",
            "counter",
            "Answers for which no server had to be asked.",
            of_caches(lists.hits, reads.hits),
        ),
        family(
            "cache_misses_total",
            "counter",
            "Answers for which a server had to be asked, of those that could have been kept.",
            of_caches(lists.misses, reads.misses),
        ),
        family(
            "cache_revocations_total",
            "counter",
            "Lists and resources dropped because their server told of a change.",
            of_caches(lists.revoked, reads.revoked),
        ),
        family(
            "cache_entries",
            "gauge",
            "Resources kept.",
            vec![(vec![("cache", "resources")], reads.entries)],
        ),
        family("cache_bytes", "gauge", "Bytes of them.", vec![(vec![("cache", "resources")], reads.bytes)]),
        family("sessions", "gauge", "Sessions of clients.", alone(count(inspection.sessions.len()))),
        family(
            "requests_in_flight",
            "gauge",
            "Requests of clients that are being worked on.",
            alone(count(inspection.edge.requests_in_flight())),
        ),
        family(
            "tasks",
            "gauge",
            "Tasks that are not over.",
            by_state(&[("working", tasks.working), ("input_required", tasks.input_required)]),
        ),
        family(
            "task_polls_total",
            "counter",
            "Looks at tasks of servers that these answered.",
            alone(tasks.heard),
        ),
        family("tasks_created_total", "counter", "Tasks begun.", alone(tasks.created)),
        family(
            "tasks_ended_total",
            "counter",
            "Tasks that are over.",
            by_state(&[
                ("completed", tasks.completed),
                ("failed", tasks.failed),
                ("cancelled", tasks.cancelled),
                ("expired", tasks.expired),
            ]),
        ),
        family("upstream_state", "gauge", "1 for the state that a server is in.", states.collect()),
    ];
    let mut out = String::new();
    families.iter().for_each(|family| family.write(&mut out));
    out
}

type Is = fn(&State) -> bool;

const STATES: [(&str, Is); 5] = [
    ("starting", |state| matches!(state, State::Starting)),
    ("ready", |state| matches!(state, State::Ready)),
    ("idle", |state| matches!(state, State::Idle)),
    ("down", |state| matches!(state, State::Down { .. })),
    ("stopped", |state| matches!(state, State::Retired)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_it_is_read() {
        let mut out = String::new();
        Family {
            name: "x",
            kind: "gauge",
            help: "Things.",
            values: vec![(vec![], 7), (vec![("a", "q\"\\\n")], 1)],
        }
        .write(&mut out);
        assert_eq!(
            out,
            "# HELP switchyard_x Things.\n# TYPE switchyard_x gauge\nswitchyard_x 7\nswitchyard_x{a=\"q\\\"\\\\\\n\"} 1\n"
        );
    }
}
