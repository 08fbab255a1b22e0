//! The command line: the binary with arguments, run to its end in a directory of the story's own.
//!
//! Owns the directory. Always: a command that does not end fails the story; what it printed is shown; none may panic. Not
//! here: gateways that keep running, which are in `gateway`.

use std::path::PathBuf;

use super::gateway::Ended;
use super::patiently;

/// A directory of the story's own, removed at its end.
#[derive(Debug)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    /// A new one.
    pub(crate) async fn new() -> Directory {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).expect("the system has randomness");
        let name = format!("switchyard-command-{:x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        tokio::fs::create_dir_all(&path).await.expect("the temporary directory takes files");
        Directory(path)
    }

    /// Put a file into it.
    pub(crate) async fn write(&self, name: &str, text: &str) {
        tokio::fs::write(self.0.join(name), text).await.expect("the temporary directory takes files");
    }

    /// Run a command in this directory to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).current_dir(&self.0).kill_on_drop(true);
        let output = patiently(&format!("{arguments:?} to end"), command.output()).await;
        let output = output.expect("the binary was built with the tests");
        let ended = Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
        };
        println!("--- {arguments:?}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
