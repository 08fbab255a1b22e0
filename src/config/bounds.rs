//! `bounds`: every limit that keeps the gateway standing, with the defaults of its reliability table.

use std::time::Duration;

pub(super) mod written;

/// Checked: sizes in bytes, times, counts. Each field's doc names the error that passing it gives.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Request body, 4 MiB; HTTP 413.
    pub request_body: usize,
    /// Body or event of an upstream's answer, 16 MiB; `result_too_large`.
    pub upstream_result: usize,
    /// One line of a stdio upstream, 16 MiB; the child is restarted. One line of a stdio client; `-32600`.
    pub stdio_line: usize,
    /// JSON nesting, 128; `-32600` inbound, `upstream_protocol_error` from upstream.
    pub json_depth: usize,
    /// Keys of one JSON object, 10,000; as `json_depth`.
    pub json_keys: usize,
    /// Items in one 2025-03-26 batch, 50; `-32600`.
    pub batch_items: usize,
    /// Hard maximum of a call whatever progress says, 15 min; `upstream_timeout`.
    pub call_maximum: Duration,
    /// Start and handshake of an upstream, 30 s; `upstream_unavailable`.
    pub start_deadline: Duration,
    /// Silence after which a stdio era probe means the handshake era, 3 s.
    pub probe_deadline: Duration,
    /// Waiting for slow upstreams when a merged list is asked for, 2 s; the last good copy is used.
    pub list_budget: Duration,
    /// Pages taken from one upstream list, 64; partial list, logged.
    pub list_pages: usize,
    /// Items taken from one upstream list, 5,000; partial list, logged.
    pub list_items: usize,
    /// Items in one page of a merged list, 1,000.
    pub page_size: usize,
    /// Re-listing of upstreams that do not notify, 60 s.
    pub relist_every: Duration,
    /// How long clients may keep a list whose upstream says nothing of time, 5 s.
    pub list_ttl: Duration,
    /// The longest that anything is kept, or told to be good, whatever an upstream says, 5 min.
    pub cache_age: Duration,
    /// Bytes of resources kept of all upstreams, 64 MiB; the least used are let go.
    pub cache_total: usize,
    /// Bytes of one resource that is kept, 1 MiB; a larger one is read anew each time.
    pub cache_entry: usize,
    /// Burst of list changes told as one, 200 ms.
    pub change_debounce: Duration,
    /// Silence before a pending answer becomes an event stream, 10 s.
    pub stream_after: Duration,
    /// Comment lines on idle event streams, 15 s.
    pub keep_alive: Duration,
    /// Events of one call that wait to be written, 256; progress replaces older progress, logs are dropped.
    pub stream_queue: usize,
    /// Unread bytes of one client stream, and one larger question, 256 KiB; progress and logs give way, questions are
    /// refused.
    pub stream_buffer: usize,
    /// Bytes kept for one session's streams, to be resumed, 1 MiB; the oldest are let go. As many may be on their way to
    /// its readers besides answers; as `stream_buffer`.
    pub session_buffer: usize,
    /// Bytes kept for the streams of all sessions, 64 MiB; as `session_buffer`.
    pub replay_total: usize,
    /// A stream that has ended can be resumed for this long, 5 min; `-32603` for its request, or HTTP 404.
    pub replay_age: Duration,
    /// Silence before a pending answer of a 2025-11-25 session becomes a stream that can be resumed, 500 ms.
    pub prime_after: Duration,
    /// Age at which a 2025-11-25 client's stream is closed, to be resumed, 1 h.
    pub stream_age: Duration,
    /// Pause before a stream is resumed, by clients and by the gateway where nobody named another, 1 s.
    pub retry: Duration,
    /// Progress notifications, and log messages, per second of one call, 100; progress is told as one.
    pub event_rate: usize,
    /// Silence on an HTTP+SSE stream before `initialize`, 30 s; the stream ends.
    pub first_message: Duration,
    /// Session without a request or open stream, 30 min; HTTP 404 afterwards.
    pub session_idle: Duration,
    /// Sessions held at once, 10,000; HTTP 503 with `Retry-After`.
    pub sessions: usize,
    /// Streams of changes (`subscriptions/listen`) open at once, 20,000; `overloaded`.
    pub listens: usize,
    /// Streams of changes of one principal, 10,000; `overloaded`.
    pub principal_listens: usize,
    /// Calls in flight of one session, 256; `overloaded`.
    pub session_calls: usize,
    /// Waiting for a client's answer to a server-initiated request, 10 min; `cancel` towards the upstream.
    pub input_timeout: Duration,
    /// Rounds of questions that one call of the stateless era may take, 16; `upstream_protocol_error`.
    pub input_rounds: usize,
    /// A `requestState` handed out, 8 KiB; what an upstream wants kept beyond that stays in the gateway.
    pub request_state: usize,
    /// For how long an upstream's state is kept for a call, 1 h; `-32602`.
    pub state_age: Duration,
    /// Questions of one server to one session in a minute, 120; the server gets the answer of one nobody answers.
    pub question_rate: usize,
    /// Questions that one call may cause, 64; the same.
    pub call_questions: usize,
    /// Connections of one caller without a session to one server on which one call at a time can be asked something, 4,
    /// and four times as many whatever its clients declare; further calls wait, `upstream_unavailable`.
    pub interactive_connections: usize,
    /// Such a connection over HTTP without a call, 15 min; it is ended.
    pub interactive_idle: Duration,
    /// Questions of one call that come together reach a stateless client together, 25 ms.
    pub gather: Duration,
    /// Calls that wait for answers of stateless clients, 1,000; `overloaded`.
    pub parked_calls: usize,
    /// Those of one caller, 250; the same.
    pub parked_calls_each: usize,
    /// Wait for pages to be reported as completed before a call is made again, 5 s.
    pub pages_wait: Duration,
    /// Child restart back-off: first, 1 s.
    pub backoff_first: Duration,
    /// Child restart back-off: longest, 60 s.
    pub backoff_longest: Duration,
    /// Staged stop of a child: after closing stdin, 2 s.
    pub stop_eof: Duration,
    /// Staged stop of a child: after SIGTERM, 2 s; then SIGKILL of the group.
    pub stop_term: Duration,
    /// Bytes queued towards one child's stdin, 16 MiB; `overloaded`.
    pub stdin_queue: usize,
    /// A child that reads nothing for this long is restarted, a client is disconnected, 30 s.
    pub write_stall: Duration,
    /// Idle connections of the handshake era are pinged this often, 30 s; two pings unanswered end the connection.
    pub ping_every: Duration,
    /// Drain on SIGTERM, 30 s.
    pub drain: Duration,
    /// Slow request heads, 10 s; the connection is closed.
    pub head_timeout: Duration,
    /// Bytes of a request's body that have to come in a second, once `head_timeout` has passed, 1 KiB; HTTP 408, and the
    /// connection is closed.
    pub body_rate: usize,
    /// Client connections per worker thread, 25,000.
    pub connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        let seconds = Duration::from_secs;
        Bounds {
            request_body: 4 * MIB,
            upstream_result: 16 * MIB,
            stdio_line: 16 * MIB,
            json_depth: 128,
            json_keys: 10_000,
            batch_items: 50,
            call_maximum: seconds(15 * 60),
            start_deadline: seconds(30),
            probe_deadline: seconds(3),
            list_budget: seconds(2),
            list_pages: 64,
            list_items: 5_000,
            page_size: 1_000,
            relist_every: seconds(60),
            list_ttl: seconds(5),
            cache_age: seconds(5 * 60),
            cache_total: 64 * MIB,
            cache_entry: MIB,
            change_debounce: Duration::from_millis(200),
            stream_after: seconds(10),
            keep_alive: seconds(15),
            stream_queue: 256,
            stream_buffer: 256 * 1024,
            session_buffer: MIB,
            replay_total: 64 * MIB,
            replay_age: seconds(5 * 60),
            prime_after: Duration::from_millis(500),
            stream_age: seconds(60 * 60),
            retry: seconds(1),
            event_rate: 100,
            first_message: seconds(30),
            session_idle: seconds(30 * 60),
            sessions: 10_000,
            listens: 20_000,
            principal_listens: 10_000,
            session_calls: 256,
            input_timeout: seconds(10 * 60),
            input_rounds: 16,
            request_state: 8 * 1024,
            state_age: seconds(60 * 60),
            question_rate: 120,
            call_questions: 64,
            interactive_connections: 4,
            interactive_idle: seconds(15 * 60),
            gather: Duration::from_millis(25),
            parked_calls: 1_000,
            parked_calls_each: 250,
            pages_wait: seconds(5),
            backoff_first: seconds(1),
            backoff_longest: seconds(60),
            stop_eof: seconds(2),
            stop_term: seconds(2),
            stdin_queue: 16 * MIB,
            write_stall: seconds(30),
            ping_every: seconds(30),
            drain: seconds(30),
            head_timeout: seconds(10),
            body_rate: 1024,
            connections: 25_000,
        }
    }
}
