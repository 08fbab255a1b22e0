//! Instructions that the envelope and the splicer take, counted by valgrind's cachegrind: the same on a busy machine.
//!
//! `cargo bench --bench instructions [-- --check | --save]`. Each case runs in two processes that differ in the number
//! of repetitions alone, so that starting up cancels out. `--check` fails when a case takes 5 % more than the figures
//! in `benches/instructions.json`, `--save` writes them anew; they belong to one compiler version, so save after
//! changing it.
//!
//! Without valgrind it says so and measures nothing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are for the terminal")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Parser;
use switchyard::protocol::frame::{Answer, Frame};
use switchyard::protocol::json::{Limits, Object, elements};
use switchyard::protocol::splice::Edit;

/// Where the figures to compare with are kept.
const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json");
/// Growth that `--check` lets pass.
const TOLERANCE: f64 = 1.05;

/// Counts instructions of the envelope and the splicer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fail when a case has grown by more than 5 %.
    #[arg(long)]
    check: bool,
    /// Keep the figures to compare with later.
    #[arg(long)]
    save: bool,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program runs when it is counted.
    #[arg(long, hide = true)]
    case: Option<String>,
    /// How often.
    #[arg(long, hide = true, default_value_t = 0)]
    times: u32,
}

/// A case: made ready once, then repeated.
type Case = Box<dyn Fn()>;

/// Name, how to make it ready, and how often it is repeated to be counted.
type Row = (&'static str, fn() -> Case, u32);

const CASES: &[Row] = &[
    ("parse a call of 0.3 KiB", || parse(call(16)), 1000),
    ("parse a call of 10 KiB", || parse(call(10 * 1024)), 200),
    ("parse a call of 1 MiB", || parse(call(1024 * 1024)), 4),
    ("parse a call of 2,000 small values", || parse(branching_call(2000)), 20),
    ("parse an answer of 0.3 KiB", || parse(answer(200)), 1000),
    ("parse and splice a call of 0.3 KiB", || splice(call(16)), 1000),
    ("parse and splice a call of 10 KiB", || splice(call(10 * 1024)), 200),
    ("parse and splice a call of 1 MiB", || splice(call(1024 * 1024)), 4),
    ("rename the tools of a list of 200", || rename_tools(200), 10),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.case {
        return repeat(name, arguments.times);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| runtime.block_on(measure(&arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn repeat(name: &str, times: u32) -> ExitCode {
    let Some((_, make, _)) = CASES.iter().find(|(known, ..)| *known == name) else {
        return ExitCode::FAILURE;
    };
    let case = make();
    for _ in 0..times {
        case();
    }
    ExitCode::SUCCESS
}

async fn measure(arguments: &Arguments) -> Result<()> {
    if tokio::process::Command::new("valgrind").arg("--version").output().await.is_err() {
        if arguments.check {
            bail!("valgrind is not installed");
        }
        println!("skipped: valgrind is not installed");
        return Ok(());
    }
    let saved: BTreeMap<String, f64> = match tokio::fs::read(SAVED).await {
        Ok(text) => serde_json::from_slice(&text).context(SAVED)?,
        Err(_) => BTreeMap::new(),
    };
    let mut counted = BTreeMap::new();
    let mut grown = Vec::new();
    println!("{:<40} {:>12} {:>9}", "case", "instructions", "change");
    for (name, _, times) in CASES {
        let count =
            (instructions(name, 2 * times).await? - instructions(name, *times).await?) / f64::from(*times);
        let change = saved.get(*name).map(|saved| count / saved);
        let shown =
            change.map_or_else(|| "new".to_owned(), |change| format!("{:+.1} %", 100.0 * (change - 1.0)));
        println!("{name:<40} {count:>12.0} {shown:>9}");
        if change.is_some_and(|change| change > TOLERANCE) {
            grown.push(*name);
        }
        counted.insert(*name, count.round());
    }
    if arguments.save {
        tokio::fs::write(SAVED, serde_json::to_string_pretty(&counted)? + "\n").await?;
    }
    if arguments.check && !grown.is_empty() {
        bail!("grown by more than 5 %: {}", grown.join(", "));
    }
    Ok(())
}

/// Instructions of a whole process that repeats the case.
async fn instructions(name: &str, times: u32) -> Result<f64> {
    let output = tokio::process::Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--case", name, "--times", &times.to_string()])
        .output()
        .await?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{name}: {log}");
    }
    let line =
        log.lines().find(|line| line.contains("refs:")).with_context(|| format!("no count in {log}"))?;
    let number = line.rsplit(':').next().unwrap_or_default().replace(',', "");
    Ok(number.trim().parse()?)
}

fn parse(text: Bytes) -> Case {
    Box::new(move || {
        black_box(Frame::parse(black_box(text.clone()), Limits::default()).expect("the text is a message"));
    })
}

/// What the gateway does to a call on its way: another tool name, progress token and trace.
fn splice(text: Bytes) -> Case {
    let out = std::cell::RefCell::new(Vec::with_capacity(text.len() + 1024));
    Box::new(move || {
        let Ok(Frame::Request(request)) = Frame::parse(black_box(text.clone()), Limits::default()) else {
            unreachable!("the text is a request");
        };
        let mut edit = Edit::of(&request.params);
        edit.set_text("name", "echo")
            .set_meta("progressToken", &b"4711"[..])
            .set_meta("traceparent", &b"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\""[..]);
        let mut out = out.borrow_mut();
        out.clear();
        edit.write(&mut out);
        black_box(&*out);
    })
}

fn rename_tools(count: usize) -> Case {
    let text = tool_list(count);
    Box::new(move || {
        let Ok(Frame::Response(response)) = Frame::parse(black_box(text.clone()), Limits::default()) else {
            unreachable!("the text is a response");
        };
        let Answer::Result(result) = response.answer else { unreachable!("it has a result") };
        let tools = elements(&result.share("tools").expect("it has tools"), Limits::NONE).expect("a list");
        let mut out = Vec::new();
        for tool in tools {
            let tool = Object::parse(tool, Limits::NONE).expect("an object");
            let name = tool.text("name").expect("it has a name");
            Edit::of(&tool).set_text("name", &format!("server__{name}")).write(&mut out);
        }
        black_box(&out);
    })
}

fn call(text: usize) -> Bytes {
    arguments(&format!(r#"{{"text":"{}"}}"#, "a small text ".repeat(text / 13 + 1)))
}

fn branching_call(values: usize) -> Bytes {
    let values: Vec<String> =
        (0..values).map(|at| format!(r#"{{"at":{at},"on":true,"tags":["x","y"]}}"#)).collect();
    arguments(&format!(r#"{{"values":[{}]}}"#, values.join(",")))
}

fn arguments(arguments: &str) -> Bytes {
    let meta = r#"{"progressToken":17,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let params = format!(r#"{{"name":"server__echo","arguments":{arguments},"_meta":{meta}}}"#);
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{params}}}"#))
}

fn answer(text: usize) -> Bytes {
    let text = "a small text ".repeat(text / 13 + 1);
    let result = format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":"{text}"}}]}}"#);
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":17,"result":{result}}}"#))
}

fn tool_list(count: usize) -> Bytes {
    let schema = r#"{"type":"object","properties":{"text":{"type":"string","description":"What it takes."},"size":{"type":"integer"}},"required":["text"]}"#;
    let tool = |number: usize| {
        format!(
            r#"{{"name":"tool_{number:04}","description":"Says at some length what it is good for.","inputSchema":{schema}}}"#
        )
    };
    let tools = (0..count).map(tool).collect::<Vec<_>>().join(",");
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":17,"result":{{"tools":[{tools}]}}}}"#))
}
