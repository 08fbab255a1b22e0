//! The file format as its users meet it: `tests/fixtures/config/{good,bad}`, the shipped `gateway.yaml`, the schema.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::problem::Severity;
use super::reference::Environment;
use super::secret::Secret;
use super::servers::{AskSettings, ProtocolChoice, Share, TransportSettings};
use super::telemetry::LogForm;
use super::*;
use crate::protocol::era::Revision;

/// Surroundings in which `${env:TOKEN}`, `${env:HOME}` and `${file:token.txt}` lead somewhere.
struct Surroundings;

const SECRET: &str = "s3cret: [${env:NONE}\n#";

impl Environment for Surroundings {
    fn variable(&self, name: &str) -> Option<OsString> {
        match name {
            "TOKEN" => Some("t0ken-value".into()),
            "STRUCTURE" => Some(SECRET.into()),
            "HOME" => Some("/home/ada".into()),
            _ => None,
        }
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("token.txt") {
            Ok("file-value\n".to_owned())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn executable(&self) -> io::Result<PathBuf> {
        Ok("/opt/switchyard".into())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/etc/gateway").join(path)
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.absolute(path)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[expect(clippy::disallowed_methods, reason = "a test reads its fixtures before it does anything else")]
fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fixtures of a folder as name and text, in order.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = root().join("tests/fixtures/config").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the fixtures are part of the tree");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let files = paths.filter(|path| path.extension().is_some_and(|kind| kind == "yaml" || kind == "json"));
    let mut named: Vec<_> = files
        .map(|path| (path.file_name().expect("a file").to_string_lossy().into_owned(), text_of(&path)))
        .collect();
    named.sort();
    named
}

fn examined(name: &str, text: &str) -> Reading {
    examine(text, Path::new(name), &Surroundings)
}

fn settings(text: &str) -> Settings {
    examined("gateway.yaml", text).into_result().unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    examined("gateway.yaml", text).problems.to_string()
}

/// A file as the schema sees it.
fn as_json(text: &str) -> Json {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).expect("fixtures that reach the schema are YAML")
}

#[test]
fn every_good_file_is_read_and_says_what_is_beside_it() {
    for (name, text) in fixtures("good") {
        let reading = examined(&name, &text);
        assert!(reading.settings.is_some(), "{}", reading.problems);
        compare("good", &name, &reading.problems);
    }
}

#[test]
fn every_bad_file_says_exactly_what_is_beside_it() {
    let files = fixtures("bad");
    assert!(files.len() >= 30, "{}", files.len());
    for (name, text) in files {
        let reading = examined(&name, &text);
        assert!(reading.settings.is_none(), "{name} was accepted");
        compare("bad", &name, &reading.problems);
    }
}

/// Compares with the `.txt` beside a fixture (none: no message); `UPDATE_FIXTURES=1` writes it instead.
fn compare(folder: &str, name: &str, problems: &Problems) {
    let path = root().join("tests/fixtures/config").join(folder).join(name).with_extension("txt");
    let found = if problems.is_empty() { String::new() } else { format!("{problems}\n") };
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        if !found.is_empty() {
            std::fs::write(&path, found).expect("fixtures can be written");
        }
        return;
    }
    let expected = if path.exists() { text_of(&path) } else { String::new() };
    assert_eq!(found, expected, "{name}");
    assert!(!found.contains("hidden"), "{name}: a message quotes what may be a secret");
}

#[test]
fn schema_and_reader_agree() {
    let schema = jsonschema::validator_for(&schema()).expect("a valid schema");
    for (name, text) in fixtures("good") {
        let refused: Vec<_> = schema.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
        assert!(refused.is_empty(), "{name}: {refused:?}");
    }
    let mut refused_by_both = 0;
    for (name, text) in fixtures("bad") {
        let reading = examined(&name, &text);
        let structural = [ProblemKind::UnknownKey, ProblemKind::NotServed, ProblemKind::WrongType];
        if reading.problems.iter().any(|problem| structural.contains(&problem.kind)) {
            assert!(!schema.is_valid(&as_json(&text)), "{name}: the schema accepts what the reader refuses");
            refused_by_both += 1;
        }
    }
    assert!(refused_by_both >= 10, "{refused_by_both}");
}

#[test]
fn every_default_of_the_schema_is_the_default_of_the_reader() {
    let mut file = json!({ "servers": { "a": { "command": "a" } } });
    let plain = settings(&file.to_string());
    let schema = schema();
    take_defaults(&schema, &schema, &mut file);
    take_defaults(&schema["$defs"]["WrittenServer"], &schema, &mut file["servers"]["a"]);
    // `enabled` and `disabled` are one setting.
    file["servers"]["a"].as_object_mut().expect("a server").remove("disabled");
    assert_eq!(file["bounds"]["request_body"], json!("4MiB"));
    assert_eq!(format!("{:#?}", settings(&file.to_string())), format!("{plain:#?}"));
}

/// Writes the defaults of a section, and of the sections in it, into a file.
fn take_defaults(section: &Json, schema: &Json, file: &mut Json) {
    for (key, about) in section["properties"].as_object().expect("a section") {
        if let Some(default) = about.get("default") {
            file[key] = default.clone();
        } else if let Some(name) = about.pointer("/anyOf/0/$ref").and_then(Json::as_str) {
            let name = name.rsplit('/').next().expect("a reference");
            let mut inside = json!({});
            take_defaults(&schema["$defs"][name], schema, &mut inside);
            file[key] = inside;
        }
    }
}

#[test]
fn every_bound_can_be_set() {
    let schema = schema();
    let mut bounds = json!({});
    for (key, about) in schema["$defs"]["WrittenBounds"]["properties"].as_object().expect("a section") {
        bounds[key] = match about["default"].as_str() {
            Some(size) if size.ends_with("iB") => json!("3MiB"),
            Some(_) if key == "backoff_longest" || key == "start_deadline" => json!("9s"),
            Some(_) => json!("7s"),
            None => json!(77),
        };
    }
    let set = settings(&json!({ "servers": { "a": { "command": "a" } }, "bounds": bounds }).to_string());
    let (default, set) = (format!("{:#?}", Bounds::default()), format!("{:#?}", set.bounds));
    let unchanged: Vec<_> = default.lines().zip(set.lines()).filter(|(a, b)| a == b).collect();
    assert_eq!(unchanged.len(), 2, "only the braces are the same: {unchanged:?}");
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    let schema = schema();
    let defs = schema["$defs"].as_object().expect("sections");
    for section in defs.values().chain([&schema]) {
        for (key, about) in section["properties"].as_object().expect("a section") {
            assert!(about["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
    }
}

#[test]
fn the_shipped_file_needs_nothing_but_the_binary() {
    let text = text_of(&root().join("gateway.yaml"));
    let reading = examined("gateway.yaml", &text);
    assert!(reading.problems.is_empty(), "{}", reading.problems);
    let settings = reading.settings.expect("no problems");
    let [demo] = settings.servers.as_slice() else { panic!("one server, found {}", settings.servers.len()) };
    let TransportSettings::Stdio(stdio) = &demo.transport else { panic!("a child process") };
    assert_eq!((demo.name.as_str(), stdio.command.as_str()), ("demo", "/opt/switchyard"));
    assert_eq!(stdio.args.iter().map(Secret::expose).collect::<Vec<_>>(), ["demo-server"]);
}

#[test]
fn the_shipped_file_is_still_good_with_everything_uncommented() {
    let shipped = text_of(&root().join("gateway.yaml"));
    // Prose begins with a capital letter, settings do not.
    let uncomment = |line: &str| match line.split_once("# ") {
        Some((indent, code))
            if indent.trim().is_empty() && !code.starts_with(|c: char| c.is_ascii_uppercase()) =>
        {
            format!("{indent}{code}")
        }
        _ => line.to_owned(),
    };
    let text: Vec<_> = shipped.lines().map(uncomment).collect();
    let text = text.join("\n").replace("REMOTE_TOKEN", "TOKEN");
    let reading = examined("gateway.yaml", &text);
    assert!(reading.problems.is_empty(), "{}\n{text}", reading.problems);
    assert_eq!(reading.settings.expect("no problems").servers.len(), 7);
}

#[test]
fn what_the_file_says_is_what_the_gateway_gets() {
    let (_, text) =
        fixtures("good").into_iter().find(|(name, _)| name == "everything.yaml").expect("a fixture");
    let settings =
        examine(&text, Path::new("/etc/mcp/gateway.yaml"), &Surroundings).into_result().expect("good");
    assert_eq!((settings.listen.data.to_string().as_str(), settings.listen.admin), ("127.0.0.1:0", None));
    assert_eq!(settings.listen.public_url.as_deref(), Some("https://mcp.example.com/gateway"));
    assert_eq!(settings.listen.origins, ["https://app.example.com", "http://intranet:8080"]);
    assert_eq!(settings.listen.hosts, ["mcp.example.com", "[2001:db8::1]"]);

    let [files, github, old] = settings.servers.as_slice() else { panic!("three servers") };
    let TransportSettings::Stdio(stdio) = &files.transport else { panic!("a child process") };
    let args: Vec<_> = stdio.args.iter().map(Secret::expose).collect();
    assert_eq!(args[2..], ["/home/ada", "--token=file-value", "${literal}"]);
    assert_eq!((stdio.env["LOG"].expose(), stdio.env["API_TOKEN"].expose()), ("debug", "t0ken-value"));
    assert_eq!(stdio.cwd.as_deref(), Some(Path::new("/etc/mcp/work")));
    assert_eq!((files.share, stdio.idle_stop), (Share::All, Duration::from_mins(15)));
    assert_eq!((files.title.as_str(), files.ask), ("Project files", AskSettings::default_for(true)));
    assert_eq!(
        (stdio.max_memory, stdio.max_cpu_seconds, stdio.max_open_files),
        (Some(512 << 20), Some(600), Some(256))
    );
    assert_eq!(files.protocol, ProtocolChoice::Pinned(Revision::V2025_11_25));
    assert_eq!((files.prefix.as_str(), files.timeout), ("f", Duration::from_secs(90)));

    let TransportSettings::Http(http) = &github.transport else { panic!("an endpoint") };
    assert_eq!(http.url, "https://mcp.github.example:8443/mcp?toolsets=all");
    let headers: Vec<_> = http.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("authorization", "Bearer t0ken-value"), ("x-tenant", "acme")]);
    assert_eq!((github.title.as_str(), github.share), ("github", Share::Principal));
    assert_eq!(github.ask, AskSettings { roots: true, sampling: true, elicitation: false, context: false });
    assert!(!old.ask.roots, "an endpoint need not learn local paths");
    assert_eq!((github.prefix.as_str(), github.timeout), ("github", Duration::from_millis(500)));
    assert!(!old.enabled && old.timeout == Duration::from_mins(1));

    let [review, all] = settings.profiles.as_slice() else { panic!("two profiles") };
    assert_eq!(review.servers.iter().map(UpstreamName::as_str).collect::<Vec<_>>(), ["github"]);
    assert!(
        review.allow.as_ref().is_some_and(|allow| allow.is_match("github__get") && !allow.is_match("f__get"))
    );
    assert!(review.deny.is_match("github__delete_repo") && review.deny.is_match("x__purge"));
    assert_eq!((all.servers.len(), all.allow.is_none()), (3, true));
    assert_eq!((settings.names.separator.as_str(), settings.names.max_length), ("-", 48));
    assert_eq!(settings.telemetry.otlp.as_deref(), Some("http://127.0.0.1:4318"));
    assert_eq!((settings.telemetry.logs, settings.telemetry.sample), (LogForm::Json, 0.01));
    assert_eq!((settings.bounds.request_body, settings.bounds.sessions), (8 << 20, 100));
}

#[test]
fn servers_keep_the_order_of_the_file_under_either_key() {
    for key in ["servers", "mcpServers"] {
        let text =
            format!("{key}:\n  zeta: {{ command: z }}\n  alpha: {{ url: \"http://127.0.0.1:1/mcp\" }}\n");
        let names: Vec<_> = settings(&text).servers.iter().map(|server| server.name.to_string()).collect();
        assert_eq!(names, ["zeta", "alpha"]);
    }
}

#[test]
fn a_reference_never_changes_the_structure_of_the_file() {
    let settings = settings(
        "servers: { a: { command: a, env: { X: \"${env:STRUCTURE}\" }, args: ['${file:token.txt}'] } }",
    );
    let TransportSettings::Stdio(stdio) = &settings.servers[0].transport else { panic!("a child process") };
    assert_eq!(stdio.env["X"].expose(), SECRET);
    assert_eq!(stdio.args[0].expose(), "file-value");
    assert!(!format!("{settings:?}").contains("s3cret"), "settings never show secrets");
}

#[test]
fn a_switched_off_server_may_lack_its_references() {
    let reading =
        examined("f.yaml", "servers: { a: { command: a, env: { X: '${env:NONE}' }, disabled: true } }");
    assert!(reading.settings.is_some_and(|settings| !settings.servers[0].enabled));
    let severities: BTreeSet<_> = reading.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, BTreeSet::from([Severity::Warning]));
}

#[test]
fn problems_are_data_too() {
    let reading = examined("f.yaml", "servers: { a: { comand: a } }");
    let data = serde_json::to_value(&reading.problems).expect("plain data");
    let only = json!([{
        "severity": "error", "kind": "unknown_key", "file": "f.yaml", "line": 1, "column": 17,
        "path": "servers.a.comand", "message": "unknown key `comand`, did you mean `command`?",
    }]);
    assert_eq!(data, only);
}

#[test]
fn a_file_that_is_not_there_is_a_problem_like_any_other() {
    let problems = load(Path::new("/nonexistent/gateway.yaml")).expect_err("no such file").to_string();
    assert!(
        problems.starts_with("/nonexistent/gateway.yaml: error: the configuration cannot be read"),
        "{problems}"
    );
}

#[test]
fn references_lead_into_the_real_surroundings() {
    let folder = std::env::temp_dir().join(format!("switchyard-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    std::fs::write(folder.join("key"), "from-file\n").expect("a file");
    std::fs::write(
        folder.join("g.yaml"),
        "servers: { a: { command: '${exe}', args: ['${file:key}'], cwd: sub } }",
    )
    .expect("a file");
    let settings = load(&folder.join("g.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    let TransportSettings::Stdio(stdio) = &settings.servers[0].transport else { panic!("a child process") };
    assert_eq!(Path::new(&stdio.command), std::env::current_exe().expect("a test has a binary"));
    assert_eq!(stdio.args[0].expose(), "from-file");
    assert_eq!(stdio.cwd, Some(folder.join("sub")));
}

#[test]
fn an_empty_file_has_all_defaults() {
    let reading = examined("f.yaml", "# nothing yet\n");
    let settings = reading.settings.expect("usable");
    assert_eq!(settings.listen.data.to_string(), DEFAULT_LISTEN);
    assert_eq!(settings.listen.admin.map(|admin| admin.to_string()).as_deref(), Some(DEFAULT_ADMIN));
    assert_eq!(
        reading.problems.to_string(),
        "f.yaml: warning: there is no server; the gateway will offer nothing"
    );
}

#[test]
fn deep_or_repeating_files_end_in_a_problem() {
    assert!(problems(&"[".repeat(100_000)).contains("not readable as YAML"));
    let mut bomb = "a: &a [x]\n".to_owned();
    for i in 0..20 {
        bomb += &format!("b{i}: &b{i} [*a, *a, *a, *a, *a, *a, *a, *a]\n")
            .replace("*a", &if i == 0 { "*a".to_owned() } else { format!("*b{}", i - 1) });
    }
    assert!(problems(&bomb).contains("not readable as YAML"));
}

proptest::proptest! {
    /// Bits of real files in any order: settings or problems, never a panic, and an error where there are no settings.
    #[test]
    fn any_text_is_answered(bits in proptest::collection::vec(proptest::sample::select(vec![
        "servers:", "a:", "command", "url: ", "http://", "[", "]", "{", "}", ": ", "\n", "  ", "- ", "${env:", "${", "}", "\"",
        "'", "&x ", "*x", "<<: ", "!!int ", "5m", "-1", "0x", "1e999", "null", "off", "profiles:", "allow", "#", "|", ">",
        "\t", "\u{0}", "\u{85}", "\u{feff}", "é", "bounds:", "timeout: ", "---", "...", "%YAML 9", ",", "mcpServers",
    ]), 0..40)) {
        let reading = examined("any.yaml", &bits.concat());
        proptest::prop_assert_eq!(reading.settings.is_none(), reading.problems.has_errors());
    }
}
