//! The `switchyard` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The gateway starts itself again to watch over each child process; nothing else may run before that.
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|verb| verb == switchyard::upstream::stdio::WARDEN_VERB) {
        return switchyard::upstream::stdio::run_warden(std::env::args_os().skip(2));
    }
    switchyard::commands::run()
}
