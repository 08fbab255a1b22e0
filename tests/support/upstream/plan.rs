//! Describing an upstream, taking an address for it, and listening.
//!
//! Owns the builder. Always: a reserved address refuses connections until its upstream starts. Not here: serving.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::{Call, Shared, Shown, Transport, Upstream, defaults, locked, over_http, over_stdio};
use crate::support::{HANDSHAKE, STATELESS};

/// An upstream that is not listening yet.
pub(crate) struct UpstreamPlan {
    shared: Shared,
}

/// Describe an upstream named `name` that speaks `revision` over `transport`.
///
/// It shows a tool `echo`, a prompt `greet`, a resource `test://NAME/static` and a template `test://NAME/item/{id}`.
pub(crate) fn upstream(name: &str, revision: &str, transport: Transport) -> UpstreamPlan {
    let shared = Shared {
        name: name.to_owned(),
        revision: revision.to_owned(),
        transport,
        scripts: HashMap::new(),
        capabilities: defaults::capabilities(),
        instructions: None,
        has_standing_stream: true,
        is_lenient: false,
        is_quiet: false,
        forgotten_status: 404,
        refused_answers: Mutex::default(),
        shown: Mutex::new(defaults::shown(name)),
        ledger: Mutex::default(),
        births: Mutex::default(),
        sessions: Mutex::default(),
        greeted: Mutex::default(),
        standing: Mutex::default(),
        listens: Mutex::default(),
        awaiting: Mutex::default(),
        faults: Mutex::default(),
        desk: Mutex::default(),
        changes: watch::Sender::new(0),
        killed: watch::Sender::new(0),
        open: watch::Sender::new(0),
        next: AtomicU64::new(1),
        connections: AtomicUsize::new(0),
    };
    UpstreamPlan { shared }
}

/// Describe an HTTP upstream of the newest handshake revision.
pub(crate) fn http_upstream(name: &str) -> UpstreamPlan {
    upstream(name, HANDSHAKE, Transport::Http)
}

/// Describe a stateless HTTP upstream.
pub(crate) fn stateless_upstream(name: &str) -> UpstreamPlan {
    upstream(name, STATELESS, Transport::Http)
}

/// Describe a stdio upstream of the newest handshake revision.
pub(crate) fn stdio_upstream(name: &str) -> UpstreamPlan {
    upstream(name, HANDSHAKE, Transport::Stdio)
}

impl UpstreamPlan {
    /// Answer a method (or `GET`, `DELETE`, or `*` for everything else) by script.
    pub(crate) fn on<F: Future<Output = ()> + Send + 'static>(
        mut self,
        method: &str,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> UpstreamPlan {
        self.shared.scripts.insert(method.to_owned(), Arc::new(move |call| Box::pin(script(call))));
        self
    }

    /// Show one more tool with this name.
    pub(crate) fn tool(self, name: &str) -> UpstreamPlan {
        self.tool_as(json!({ "name": name, "description": name, "inputSchema": { "type": "object" } }))
    }

    /// Show one more tool.
    pub(crate) fn tool_as(self, tool: Value) -> UpstreamPlan {
        self.show(|shown| shown.tools.push(tool))
    }

    /// Change what is shown.
    pub(crate) fn show(self, change: impl FnOnce(&mut Shown)) -> UpstreamPlan {
        change(&mut locked(&self.shared.shown));
        self
    }

    /// Declare these capabilities.
    pub(crate) fn capabilities(mut self, capabilities: Value) -> UpstreamPlan {
        self.shared.capabilities = capabilities;
        self
    }

    pub(super) fn is_stateless(&self) -> bool {
        self.shared.is_stateless()
    }

    pub(super) fn declared(&self) -> Value {
        self.shared.capabilities.clone()
    }

    pub(super) fn set_manner(&mut self, manner: super::Manner) {
        locked(&self.shared.desk).manner = manner;
    }

    /// Offer instructions.
    pub(crate) fn instructions(mut self, text: &str) -> UpstreamPlan {
        self.shared.instructions = Some(text.to_owned());
        self
    }

    /// Answer GET with 405.
    pub(crate) fn without_standing_stream(mut self) -> UpstreamPlan {
        self.shared.has_standing_stream = false;
        self
    }

    /// Tell that a session is unknown by this status instead of 404.
    pub(crate) fn forgetting_with(mut self, status: u16) -> UpstreamPlan {
        self.shared.forgotten_status = status;
        self
    }

    /// Meet the first answers of the gateway with these statuses, or with a reset where it is 0.
    pub(crate) fn refusing_answers(self, statuses: &[u16]) -> UpstreamPlan {
        locked(&self.shared.refused_answers).extend(statuses);
        self
    }

    /// Do not judge what the gateway sends; for stories that relay unlawful things on purpose.
    pub(crate) fn lenient(mut self) -> UpstreamPlan {
        self.shared.is_lenient = true;
        self
    }

    /// Print nothing and judge nothing; for stories with very many messages.
    pub(crate) fn quiet(mut self) -> UpstreamPlan {
        self.shared.is_quiet = true;
        self.lenient()
    }

    /// Listen on an address that another upstream left; `None` while it is not free.
    pub(crate) async fn start_at(self, address: SocketAddr) -> Option<Upstream> {
        let socket = TcpSocket::new_v4().expect("sockets are to be had");
        socket.set_reuseaddr(true).expect("a fresh socket takes options");
        socket.bind(address).ok()?;
        let shared = Arc::new(self.shared);
        Some(Reserved { shared, socket, address }.start().await)
    }

    /// Take an address without listening on it: connections are refused until [`Reserved::start`].
    pub(crate) fn reserve(self) -> Reserved {
        let socket = TcpSocket::new_v4().expect("sockets are to be had");
        // Accepted connections inherit it, so that [`UpstreamPlan::start_at`] can follow while they are still closing.
        socket.set_reuseaddr(true).expect("a fresh socket takes options");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has free ports");
        let address = socket.local_addr().expect("bound above");
        Reserved { shared: Arc::new(self.shared), socket, address }
    }

    /// Listen.
    pub(crate) async fn start(self) -> Upstream {
        self.reserve().start().await
    }
}

/// An upstream with an address where nobody listens yet.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// The server's entry in the gateway's configuration.
    pub(crate) fn settings(&self) -> Value {
        settings(self.shared.transport, self.address)
    }

    /// Listen.
    pub(crate) async fn start(self) -> Upstream {
        let listener = self.socket.listen(1024).expect("a bound socket can listen");
        let shared = Arc::clone(&self.shared);
        let serving = tokio::spawn(async move {
            let mut killed = shared.killed.subscribe();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = killed.changed() => return,
                };
                let Ok((stream, _)) = accepted else { return };
                stream.set_nodelay(true).ok();
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                shared.open.send_modify(|open| *open += 1);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    serve_until_killed(&shared, stream, number).await;
                    shared.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Upstream { shared: self.shared, address: self.address, serving }
    }
}

async fn serve_until_killed(shared: &Arc<Shared>, stream: TcpStream, number: usize) {
    let mut killed = shared.killed.subscribe();
    let serve = async {
        match shared.transport {
            Transport::Http => over_http::serve(Arc::clone(shared), stream, number).await,
            Transport::Stdio => over_stdio::serve(Arc::clone(shared), stream, number).await,
        }
    };
    tokio::select! {
        () = serve => {}
        _ = killed.changed() => {}
    }
}

pub(super) fn settings(transport: Transport, address: SocketAddr) -> Value {
    match transport {
        Transport::Http => json!({ "url": format!("http://{address}/mcp") }),
        Transport::Stdio => {
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/pipe_child.py");
            json!({ "command": "python3", "args": [program, address.port().to_string()] })
        }
    }
}
