//! Stories of the whole catalogue, told with small settings and lists.

mod merging;
mod paging;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use globset::{Glob, GlobSet, GlobSetBuilder};

use super::listing::{ListKind, Listing, ListingBuilder};
use super::state::{CatalogueState, Fetched, FetchedLists};
use super::{Snapshot, View};
use crate::config::Settings;
use crate::config::bounds::Bounds;
use crate::config::listen::ListenSettings;
use crate::config::names::NameSettings;
use crate::config::profiles::ProfileSettings;
use crate::config::revisions::ServedRevisions;
use crate::config::servers::{
    AskSettings, HttpSettings, ProtocolChoice, ServerSettings, Share, TransportSettings, Trust,
};
use crate::config::tasks::TaskSettings;
use crate::config::telemetry::{LogForm, TelemetrySettings};
use crate::names::{ProfileName, UpstreamName};
use crate::protocol::json::{Limits, Object, elements};
use crate::store::seal::Sealer;

/// Settings with servers as `(key, prefix)`.
fn settings(servers: &[(&str, &str)]) -> Settings {
    let server = |(name, prefix): &(&str, &str)| ServerSettings {
        trust: Trust::Vendor,
        tell_client: false,
        name: UpstreamName::new(*name),
        title: (*name).into(),
        share: Share::Session,
        ask: AskSettings::default_for(false),
        transport: TransportSettings::Http(HttpSettings {
            url: "http://127.0.0.1:1/".into(),
            headers: vec![],
            sse: false,
        }),
        protocol: ProtocolChoice::Auto,
        prefix: (*prefix).into(),
        timeout: Duration::from_secs(1),
        enabled: true,
    };
    let data = "127.0.0.1:0".parse().expect("an address");
    Settings {
        revisions: ServedRevisions::default(),
        listen: ListenSettings {
            data,
            admin: None,
            public_url: None,
            origins: vec![],
            hosts: vec![],
            http_sse: true,
        },
        servers: servers.iter().map(server).collect(),
        profiles: vec![],
        names: NameSettings { separator: "__".into(), max_length: 64 },
        telemetry: TelemetrySettings { otlp: None, logs: LogForm::Text, level: "info".into(), sample: 0.0 },
        tasks: TaskSettings::default(),
        state: crate::config::state::StateSettings::Memory,
        sessions: crate::config::sessions::SessionSettings::Memory,
        bounds: Bounds { change_debounce: Duration::from_millis(20), page_size: 3, ..Bounds::default() },
    }
}

fn globs(patterns: &[&str]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).expect("a glob"));
    }
    set.build().expect("globs")
}

fn profile(name: &str, servers: &[&str], allow: Option<&[&str]>, deny: &[&str]) -> ProfileSettings {
    ProfileSettings {
        name: ProfileName::new(name),
        servers: servers.iter().map(|server| UpstreamName::new(*server)).collect(),
        allow: allow.map(globs),
        deny: globs(deny),
    }
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::ephemeral().expect("randomness"))
}

fn state(settings: &Settings) -> CatalogueState {
    CatalogueState::new(settings, sealer())
}

fn item(kind: ListKind, identity: &str) -> String {
    match kind {
        ListKind::Tools => format!(r#"{{"name":"{identity}","inputSchema":{{"type":"object"}}}}"#),
        ListKind::Prompts => format!(r#"{{"name":"{identity}"}}"#),
        ListKind::Resources => format!(r#"{{"uri":"{identity}","name":"n"}}"#),
        ListKind::Templates => format!(r#"{{"uriTemplate":"{identity}","name":"n"}}"#),
    }
}

fn listing_of(kind: ListKind, items: &[String]) -> Listing {
    let mut builder = ListingBuilder::new(kind, &|_| Ok(()));
    for item in items {
        builder.push(Object::parse(Bytes::copy_from_slice(item.as_bytes()), Limits::default()).ok());
    }
    builder.finish(None)
}

fn listed(kind: ListKind, identities: &[&str]) -> Fetched {
    let items: Vec<String> = identities.iter().map(|identity| item(kind, identity)).collect();
    Fetched::Listed(listing_of(kind, &items))
}

/// Lists of one kind, the others unsupported.
fn only(kind: ListKind, identities: &[&str]) -> FetchedLists {
    let mut lists = FetchedLists::default();
    for other in ListKind::ALL {
        lists.set(other, Fetched::Unsupported);
    }
    lists.with(kind, listed(kind, identities))
}

fn tools(names: &[&str]) -> FetchedLists {
    only(ListKind::Tools, names)
}

fn resources(uris: &[&str], templates: &[&str]) -> FetchedLists {
    only(ListKind::Resources, uris).with(ListKind::Templates, listed(ListKind::Templates, templates))
}

fn hear(state: &mut CatalogueState, news: Vec<(&str, FetchedLists)>) -> Snapshot {
    for (upstream, lists) in news {
        state.lists_fetched(&UpstreamName::new(upstream), lists);
    }
    state.snapshot()
}

fn shown(view: &View, kind: ListKind) -> Vec<String> {
    view.list(kind).entries.iter().map(|route| route.public.as_str().to_owned()).collect()
}

/// Identities on a page, and its cursor.
fn read_page(page: &Bytes, kind: ListKind) -> (Vec<String>, Option<String>) {
    let page = Object::parse(page.clone(), Limits::default()).expect("a page is an object");
    let items = elements(&page.share(kind.member()).expect("a list"), Limits::default()).expect("an array");
    let identity = |item: Bytes| {
        let item = Object::parse(item, Limits::default()).expect("an item");
        item.text(kind.identity()).expect("an identity").into_owned()
    };
    (items.into_iter().map(identity).collect(), page.text("nextCursor").map(|cursor| cursor.into_owned()))
}
