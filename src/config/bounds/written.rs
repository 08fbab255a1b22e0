//! `bounds` as the file writes it, and the check that every limit is one that can be lived with.

use std::time::Duration;

use super::Bounds;
use crate::config::check::Check;
use crate::config::problem::Place;
use crate::config::quantity::{ByteSize, TimeSpan};
use crate::config::section::section;
use crate::config::written::{At, Given, Key, given};

section! {
    /// Limits that keep the gateway standing. Each tells what passing it leads to.
    struct WrittenBounds {
        /// Request body; HTTP 413.
        #[schemars(extend("default" = "4MiB"))]
        "request_body" request_body: ByteSize,
        /// Body or event of an upstream's answer; `result_too_large`.
        #[schemars(extend("default" = "16MiB"))]
        "upstream_result" upstream_result: ByteSize,
        /// One line of a stdio upstream; the child is restarted. One line of a stdio client; `-32600`.
        #[schemars(extend("default" = "16MiB"))]
        "stdio_line" stdio_line: ByteSize,
        /// JSON nesting; `-32600` inbound, `upstream_protocol_error` from upstream.
        #[schemars(extend("default" = 128))]
        "json_depth" json_depth: u64,
        /// Keys of one JSON object; as `json_depth`.
        #[schemars(extend("default" = 10_000))]
        "json_keys" json_keys: u64,
        /// Items in one 2025-03-26 batch; `-32600`.
        #[schemars(extend("default" = 50))]
        "batch_items" batch_items: u64,
        /// Hard maximum of a call whatever progress says; `upstream_timeout`.
        #[schemars(extend("default" = "15m"))]
        "call_maximum" call_maximum: TimeSpan,
        /// Start and handshake of an upstream; `upstream_unavailable`.
        #[schemars(extend("default" = "30s"))]
        "start_deadline" start_deadline: TimeSpan,
        /// Silence after which a stdio era probe means the handshake era.
        #[schemars(extend("default" = "3s"))]
        "probe_deadline" probe_deadline: TimeSpan,
        /// Waiting for slow upstreams when a merged list is asked for; the last good copy is used.
        #[schemars(extend("default" = "2s"))]
        "list_budget" list_budget: TimeSpan,
        /// Pages taken from one upstream list; partial list, logged.
        #[schemars(extend("default" = 64))]
        "list_pages" list_pages: u64,
        /// Items taken from one upstream list; partial list, logged.
        #[schemars(extend("default" = 5_000))]
        "list_items" list_items: u64,
        /// Items in one page of a merged list.
        #[schemars(extend("default" = 1_000))]
        "page_size" page_size: u64,
        /// Re-listing of upstreams that do not notify.
        #[schemars(extend("default" = "60s"))]
        "relist_every" relist_every: TimeSpan,
        /// How long stateless clients may keep a list whose server says nothing of time.
        #[schemars(extend("default" = "5s"))]
        "list_ttl" list_ttl: TimeSpan,
        /// The longest that anything is kept, or told to be good, whatever a server says.
        #[schemars(extend("default" = "5m"))]
        "cache_age" cache_age: TimeSpan,
        /// Bytes of resources kept of all servers, where these allow it; the least used are let go.
        #[schemars(extend("default" = "64MiB"))]
        "cache_total" cache_total: ByteSize,
        /// Bytes of one resource that is kept; a larger one is read anew each time.
        #[schemars(extend("default" = "1MiB"))]
        "cache_entry" cache_entry: ByteSize,
        /// Burst of list changes told as one.
        #[schemars(extend("default" = "200ms"))]
        "change_debounce" change_debounce: TimeSpan,
        /// Silence before a pending answer becomes an event stream.
        #[schemars(extend("default" = "10s"))]
        "stream_after" stream_after: TimeSpan,
        /// Comment lines on idle event streams.
        #[schemars(extend("default" = "15s"))]
        "keep_alive" keep_alive: TimeSpan,
        /// Events of one call that wait to be written; progress replaces older progress, logs are dropped.
        #[schemars(extend("default" = 256))]
        "stream_queue" stream_queue: u64,
        /// Unread bytes of one client stream, and one larger question; progress and logs give way, questions are refused.
        #[schemars(extend("default" = "256KiB"))]
        "stream_buffer" stream_buffer: ByteSize,
        /// Bytes kept for one session's streams, to be resumed, the oldest are let go; as many may be on their way to its
        /// readers besides answers.
        #[schemars(extend("default" = "1MiB"))]
        "session_buffer" session_buffer: ByteSize,
        /// Bytes kept for the streams of all sessions; as `session_buffer`.
        #[schemars(extend("default" = "64MiB"))]
        "replay_total" replay_total: ByteSize,
        /// A stream that has ended can be resumed for this long; `-32603` for its request, or HTTP 404.
        #[schemars(extend("default" = "5m"))]
        "replay_age" replay_age: TimeSpan,
        /// Silence before a pending answer of a 2025-11-25 session becomes a stream that can be resumed.
        #[schemars(extend("default" = "500ms"))]
        "prime_after" prime_after: TimeSpan,
        /// Age at which a 2025-11-25 client's stream is closed, to be resumed.
        #[schemars(extend("default" = "1h"))]
        "stream_age" stream_age: TimeSpan,
        /// Pause before a stream is resumed, by clients and by the gateway where nobody named another.
        #[schemars(extend("default" = "1s"))]
        "retry" retry: TimeSpan,
        /// Progress notifications, and log messages, per second of one call; progress is told as one.
        #[schemars(extend("default" = 100))]
        "event_rate" event_rate: u64,
        /// Silence on an HTTP+SSE stream before `initialize`; the stream ends.
        #[schemars(extend("default" = "30s"))]
        "first_message" first_message: TimeSpan,
        /// Session without a request or open stream; HTTP 404 afterwards.
        #[schemars(extend("default" = "30m"))]
        "session_idle" session_idle: TimeSpan,
        /// Sessions held at once; HTTP 503 with `Retry-After`.
        #[schemars(extend("default" = 10_000))]
        "sessions" sessions: u64,
        /// Streams of changes (`subscriptions/listen`) open at once; `overloaded`.
        #[schemars(extend("default" = 20_000))]
        "listens" listens: u64,
        /// Streams of changes of one principal; `overloaded`.
        #[schemars(extend("default" = 10_000))]
        "principal_listens" principal_listens: u64,
        /// Calls in flight of one session; `overloaded`.
        #[schemars(extend("default" = 256))]
        "session_calls" session_calls: u64,
        /// Waiting for a client's answer to a server-initiated request; `cancel` towards the upstream.
        #[schemars(extend("default" = "10m"))]
        "input_timeout" input_timeout: TimeSpan,
        /// Rounds of questions that one call of the stateless era may take; `upstream_protocol_error`.
        #[schemars(extend("default" = 16))]
        "input_rounds" input_rounds: u64,
        /// A `requestState` handed out; what an upstream wants kept beyond that stays in the gateway.
        #[schemars(extend("default" = "8KiB"))]
        "request_state" request_state: ByteSize,
        /// For how long an upstream's state is kept for a call; `-32602`.
        #[schemars(extend("default" = "1h"))]
        "state_age" state_age: TimeSpan,
        /// Questions of one server to one session in a minute; the server is told `cancel`.
        #[schemars(extend("default" = 120))]
        "question_rate" question_rate: u64,
        /// Questions that one call may cause; the server is told `cancel`.
        #[schemars(extend("default" = 64))]
        "call_questions" call_questions: u64,
        /// Connections of one stateless caller to one server on which one call at a time can be asked something; further
        /// calls wait, `upstream_unavailable`.
        #[schemars(extend("default" = 4))]
        "interactive_connections" interactive_connections: u64,
        /// Such a connection over HTTP without a call; it is ended.
        #[schemars(extend("default" = "15m"))]
        "interactive_idle" interactive_idle: TimeSpan,
        /// Questions of one call that come together reach a stateless client together.
        #[schemars(extend("default" = "25ms"))]
        "gather" gather: TimeSpan,
        /// Calls that wait for answers of stateless clients; `overloaded`.
        #[schemars(extend("default" = 1_000))]
        "parked_calls" parked_calls: u64,
        /// Those of one caller; `overloaded`.
        #[schemars(extend("default" = 250))]
        "parked_calls_each" parked_calls_each: u64,
        /// Wait for pages to be reported as completed before a call is made again.
        #[schemars(extend("default" = "5s"))]
        "pages_wait" pages_wait: TimeSpan,
        /// Child restart back-off: first.
        #[schemars(extend("default" = "1s"))]
        "backoff_first" backoff_first: TimeSpan,
        /// Child restart back-off: longest.
        #[schemars(extend("default" = "60s"))]
        "backoff_longest" backoff_longest: TimeSpan,
        /// Staged stop of a child: after closing stdin.
        #[schemars(extend("default" = "2s"))]
        "stop_eof" stop_eof: TimeSpan,
        /// Staged stop of a child: after SIGTERM; then SIGKILL of the group.
        #[schemars(extend("default" = "2s"))]
        "stop_term" stop_term: TimeSpan,
        /// Bytes queued towards one child's stdin; `overloaded`.
        #[schemars(extend("default" = "16MiB"))]
        "stdin_queue" stdin_queue: ByteSize,
        /// A child that reads nothing for this long is restarted, a client is disconnected.
        #[schemars(extend("default" = "30s"))]
        "write_stall" write_stall: TimeSpan,
        /// Idle connections of the handshake era are pinged this often; two pings unanswered end the connection.
        #[schemars(extend("default" = "30s"))]
        "ping_every" ping_every: TimeSpan,
        /// Drain on SIGTERM.
        #[schemars(extend("default" = "30s"))]
        "drain" drain: TimeSpan,
        /// Slow request heads; the connection is closed.
        #[schemars(extend("default" = "10s"))]
        "head_timeout" head_timeout: TimeSpan,
        /// Bytes of a request's body that have to come in a second, once `head_timeout` has passed; HTTP 408.
        #[schemars(extend("default" = "1KiB"))]
        "body_rate" body_rate: ByteSize,
        /// Client connections per worker thread.
        #[schemars(extend("default" = 25_000))]
        "connections" connections: u64,
    }
}

/// Fills in the section: each listed key that the file has replaces its default.
macro_rules! take_over {
    ($bounds:ident, $written:ident, $check:ident: $($key:ident),+ $(,)?) => {$(
        if let Some(limit) = given(&$written.$key) && let Some(fits) = limit.value.fit(&limit.place, $check) {
            $bounds.$key = fits;
        }
    )+};
}

impl Bounds {
    /// Checks the section.
    pub(in crate::config) fn check(written: &Key<WrittenBounds>, check: &mut Check<'_>) -> Bounds {
        let mut bounds = Bounds::default();
        let Some(At { value: written, .. }) = given(written) else { return bounds };
        take_over!(bounds, written, check:
            request_body,
            upstream_result,
            stdio_line,
            json_depth,
            json_keys,
            batch_items,
            call_maximum,
            start_deadline,
            probe_deadline,
            list_budget,
            list_pages,
            list_items,
            page_size,
            relist_every,
            list_ttl,
            cache_age,
            cache_total,
            cache_entry,
            change_debounce,
            stream_after,
            keep_alive,
            stream_queue,
            stream_buffer,
            session_buffer,
            replay_total,
            replay_age,
            prime_after,
            stream_age,
            retry,
            event_rate,
            first_message,
            session_idle,
            sessions,
            listens,
            principal_listens,
            session_calls,
            input_timeout,
            input_rounds,
            request_state,
            state_age,
            question_rate,
            call_questions,
            interactive_connections,
            interactive_idle,
            gather,
            parked_calls,
            parked_calls_each,
            pages_wait,
            backoff_first,
            backoff_longest,
            stop_eof,
            stop_term,
            stdin_queue,
            write_stall,
            ping_every,
            drain,
            head_timeout,
            body_rate,
            connections,
        );
        bounds.check_together(written, check);
        bounds
    }

    /// Limits that only make sense beside each other.
    fn check_together(&self, written: &WrittenBounds, check: &mut Check<'_>) {
        let either = |first: &Key<TimeSpan>, second: &Key<TimeSpan>| {
            given(first).or(given(second)).map(|at| at.place.clone())
        };
        if self.backoff_first > self.backoff_longest
            && let Some(place) = either(&written.backoff_first, &written.backoff_longest)
        {
            check.conflict::<()>(&place, "`backoff_first` is longer than `backoff_longest`");
        }
        if self.probe_deadline >= self.start_deadline
            && let Some(place) = either(&written.probe_deadline, &written.start_deadline)
        {
            check.conflict::<()>(&place, "`probe_deadline` leaves no time within `start_deadline`");
        }
        if self.json_depth > DEEPEST_JSON
            && let Some(Given::Read(depth)) = &written.json_depth
        {
            check.bad::<()>(&depth.place, format!("expected at most {DEEPEST_JSON}"));
        }
    }
}

/// Deeper than any sane message, shallow enough for every reader's stack.
const DEEPEST_JSON: usize = 512;

/// A limit that is neither nothing nor as good as none.
trait Limit {
    type Checked;

    fn fit(&self, place: &Place, check: &mut Check<'_>) -> Option<Self::Checked>;
}

impl Limit for TimeSpan {
    type Checked = Duration;

    fn fit(&self, place: &Place, check: &mut Check<'_>) -> Option<Duration> {
        const DAY: Duration = Duration::from_hours(24);
        if self.0.is_zero() || self.0 > DAY {
            return check.bad(place, "expected a time from `1ms` to `24h`");
        }
        Some(self.0)
    }
}

impl Limit for ByteSize {
    type Checked = usize;

    fn fit(&self, place: &Place, check: &mut Check<'_>) -> Option<usize> {
        if !(1 << 10..=1 << 30).contains(&self.0) {
            return check.bad(place, "expected a size from `1KiB` to `1GiB`");
        }
        usize::try_from(self.0).ok()
    }
}

impl Limit for u64 {
    type Checked = usize;

    fn fit(&self, place: &Place, check: &mut Check<'_>) -> Option<usize> {
        if !(1..=1_000_000).contains(self) {
            return check.bad(place, "expected a number from 1 to 1000000");
        }
        usize::try_from(*self).ok()
    }
}
