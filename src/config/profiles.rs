//! `profiles`: named views of the catalogue, each an endpoint `/mcp/{profile}` of its own (S-HTTPS-19).

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::check::{Check, is_key, valid_key_like};
use super::section::{nearest, section};
use super::written::{At, Given, Key, Table, Text, given};
use crate::names::{ProfileName, UpstreamName};

/// Checked: one profile.
#[derive(Debug, Clone)]
pub struct ProfileSettings {
    /// The key in `profiles`, and the last path segment of its endpoint.
    pub name: ProfileName,
    /// Servers it shows, in the order of `servers`.
    pub servers: Vec<UpstreamName>,
    /// Public tool names it shows; `None` shows all.
    pub allow: Option<GlobSet>,
    /// Public tool names it hides; wins over `allow`.
    pub deny: GlobSet,
}

section! {
    /// A view of the catalogue with an endpoint of its own, `/mcp/{profile}`.
    struct WrittenProfile {
        /// Keys of the servers it shows; all when absent.
        "servers" servers: Vec<Given<Text>>,
        /// Which tools it shows.
        "tools" tools: WrittenToolChoice,
    }
    elsewhere: "allow" => "write it below `tools`", "deny" => "write it below `tools`";
}

section! {
    /// Which tools a profile shows, as globs over public names.
    struct WrittenToolChoice {
        /// Tools shown; all when absent.
        "allow" allow: Vec<Given<Text>>,
        /// Tools hidden; wins over `allow`.
        "deny" deny: Vec<Given<Text>>,
    }
}

/// Checks all profiles; `servers` are the keys of all servers, in the order of the file.
pub(super) fn check_all(
    written: &Key<Table<WrittenProfile>>,
    servers: &[UpstreamName],
    check: &mut Check<'_>,
) -> Vec<ProfileSettings> {
    let profiles = given(written).map(|written| written.value.0.as_slice()).unwrap_or_default();
    profiles.iter().filter_map(|(name, profile)| one(name, profile, servers, check)).collect()
}

fn one(
    name: &At<String>,
    written: &Given<WrittenProfile>,
    servers: &[UpstreamName],
    check: &mut Check<'_>,
) -> Option<ProfileSettings> {
    if !is_key(&name.value) {
        let like = valid_key_like(&name.value);
        check.bad::<()>(
            &name.place,
            format!("a profile's key is 1 to 32 of `A-Z a-z 0-9 _ -`; write `{like}`"),
        );
    }
    let written = &written.read()?.value;
    let servers = shown_servers(&written.servers, servers, check);
    let tools = given(&written.tools).map(|tools| &tools.value);
    let allow = tools.and_then(|tools| given(&tools.allow)).and_then(|list| globs(&list.value, check));
    let deny =
        tools.and_then(|tools| given(&tools.deny)).map(|list| list.value.as_slice()).unwrap_or_default();
    let deny = globs(deny, check)?;
    Some(ProfileSettings { name: ProfileName::new(name.value.as_str()), servers, allow, deny })
}

fn shown_servers(
    written: &Key<Vec<Given<Text>>>,
    all: &[UpstreamName],
    check: &mut Check<'_>,
) -> Vec<UpstreamName> {
    let Some(list) = given(written) else { return all.to_vec() };
    if list.value.is_empty() {
        check.problems.lint(&list.place, "the profile shows no server; leave `servers` out to show all");
    }
    let mut named = Vec::new();
    for item in list.value.iter().filter_map(Given::read) {
        let name = &item.value.0;
        if !all.iter().any(|server| server.as_str() == name) {
            let meant = nearest(name, all.iter().map(UpstreamName::as_str));
            let advice = meant.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            check.bad::<()>(&item.place, format!("there is no server `{name}`{advice}"));
        }
        named.push(name);
    }
    all.iter().filter(|server| named.iter().any(|name| *name == server.as_str())).cloned().collect()
}

fn globs(list: &[Given<Text>], check: &mut Check<'_>) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for item in list.iter().filter_map(Given::read) {
        match Glob::new(&item.value.0) {
            Ok(glob) => _ = set.add(glob),
            Err(error) => _ = check.bad::<()>(&item.place, format!("not a glob: {}", error.kind())),
        }
    }
    set.build().ok()
}
