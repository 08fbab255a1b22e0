//! The dependency table of `src/lib.rs`, as a test: modules use only what lies below them.

#![expect(clippy::disallowed_methods, reason = "a test that reads sources has no runtime to block")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The table of `src/lib.rs`: each module, and those it may name besides itself, `names` and `protocol`.
fn may_use() -> Vec<(String, Vec<String>)> {
    let tour = fs::read_to_string(root().join("lib.rs")).expect("readable");
    let rows = tour.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let mut table: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_end().trim_end_matches('|').split(" |").collect();
        let [module, _, used] = cells.as_slice() else { panic!("not a row of the table: {row}") };
        let module = module.trim_end_matches("`]").to_owned();
        let used = match used.trim() {
            "all above" => table.iter().map(|(module, _)| module.clone()).collect(),
            // What stands in brackets is for readers.
            listed => listed
                .split(" (")
                .flat_map(|part| part.rsplit(')').next())
                .flat_map(|part| part.split(','))
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
        };
        table.push((module, used));
    }
    table
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Where actix's types may be named: shells, edges and assembly. Logic is plain.
const ACTIX_FILES: &[&str] =
    &["actor.rs", "messages.rs", "handle.rs", "supervisor.rs", "refresher.rs", "announcer.rs"];
const ACTIX_MODULES: &[&str] = &["downstream", "admin", "gateway", "commands", "demo"];

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn module_of(file: &Path, root: &Path) -> String {
    let inside = file.strip_prefix(root).expect("below src");
    let first = inside.components().next().expect("not empty").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Names that follow `crate::` in code, comments left out; `{a, b}` groups at the top count each.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" //").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().last();
        if before.is_some_and(|character| character.is_alphanumeric() || character == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let group = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or_default());
        for part in group.map_or(vec![rest], |group| group.split(',').collect()) {
            let name: String =
                part.trim().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            names.insert(name);
        }
    }
    names.remove("");
    names
}

#[test]
fn modules_only_use_what_lies_below_them() {
    let root = root();
    let table = may_use();
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let module = module_of(&file, &root);
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = table.iter().find(|(known, _)| *known == module) else {
            wrong.push(format!("{module} is not in the table"));
            continue;
        };
        for used in crate_paths(&fs::read_to_string(&file).expect("readable")) {
            let below = used == module || used == "names" || used == "protocol" || allowed.contains(&used);
            if !below && used.chars().next().is_some_and(char::is_lowercase) {
                wrong.push(format!("{} reaches up into {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let root = root();
    let there: BTreeSet<String> = sources(&root)
        .iter()
        .map(|file| module_of(file, &root))
        .filter(|name| name != "lib" && name != "main")
        .collect();
    let table = may_use();
    let listed: BTreeSet<String> = table.iter().map(|(module, _)| module.clone()).collect();
    assert_eq!(there, listed);
    let named = table.iter().flat_map(|(_, used)| used);
    let unknown: Vec<_> = named.filter(|name| !listed.contains(*name)).collect();
    assert!(unknown.is_empty(), "the table allows what is no module: {unknown:?}");
    for lowest in ["names", "protocol", "config", "demo"] {
        let used = &table.iter().find(|(module, _)| module == lowest).expect("listed").1;
        assert!(used.is_empty(), "{lowest} uses {used:?}");
    }
}

#[test]
fn actix_stays_in_shells_edges_and_assembly() {
    let root = root();
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let module = module_of(&file, &root);
        let text = fs::read_to_string(&file).expect("readable");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let names_actix = code.lines().any(|line| {
            !line.trim_start().starts_with("//")
                && ["actix::", "actix_web::", "actix_rt::"].iter().any(|path| line.contains(path))
        });
        let in_tests = file.components().any(|part| part.as_os_str() == "tests") || name == "tests.rs";
        let welcome =
            ACTIX_FILES.contains(&name.as_str()) || ACTIX_MODULES.contains(&module.as_str()) || in_tests;
        if names_actix && !welcome {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "actix is named in\n{}", wrong.join("\n"));
}

#[test]
fn codes_of_errors_are_named_in_one_place() {
    for file in sources(Path::new("src")) {
        if file.starts_with("src/demo") || file.ends_with("protocol/code.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source");
        let named = text.lines().find(|line| line.contains("const ") && line.contains(": i64 = -"));
        assert!(named.is_none(), "{} names a code of its own: {named:?}", file.display());
    }
}
