//! What a warden is told on its command line: `[--flag value]… -- COMMAND ARGUMENTS…`.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The command and how to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Orders {
    /// Pid of whoever started this process; when it has another parent, that one is gone.
    pub(in super::super) parent: u32,
    /// Between SIGTERM and SIGKILL.
    pub(in super::super) grace: Duration,
    /// Resident memory of the tree, bytes.
    pub(in super::super) memory: Option<u64>,
    /// Processor time of each process, seconds.
    pub(in super::super) cpu_seconds: Option<u64>,
    /// Open files of each process.
    pub(in super::super) open_files: Option<u64>,
    /// Program.
    pub(in super::super) command: OsString,
    /// Its arguments.
    pub(in super::super) args: Vec<OsString>,
}

impl Orders {
    /// The command line.
    pub(in super::super) fn to_args(&self) -> Vec<OsString> {
        let grace = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        let flags = [
            ("--parent", Some(u64::from(self.parent))),
            ("--grace", Some(grace)),
            ("--memory", self.memory),
            ("--cpu", self.cpu_seconds),
            ("--files", self.open_files),
        ];
        let given =
            flags.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?.to_string().into()]));
        let mut line: Vec<OsString> = given.flatten().collect();
        line.push("--".into());
        line.push(self.command.clone());
        line.extend(self.args.iter().cloned());
        line
    }

    /// Reads a command line.
    pub(super) fn parse(mut line: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut orders = Orders {
            parent: 0,
            grace: Duration::ZERO,
            memory: None,
            cpu_seconds: None,
            open_files: None,
            command: OsString::new(),
            args: Vec::new(),
        };
        while let Some(flag) = line.next() {
            if flag == "--" {
                orders.command = line.next().ok_or("no command")?;
                orders.args = line.collect();
                return Ok(orders);
            }
            let value = number(&flag, line.next().as_deref())?;
            match flag.to_str() {
                Some("--parent") => orders.parent = u32::try_from(value).map_err(|_| "no pid: --parent")?,
                Some("--grace") => orders.grace = Duration::from_millis(value),
                Some("--memory") => orders.memory = Some(value),
                Some("--cpu") => orders.cpu_seconds = Some(value),
                Some("--files") => orders.open_files = Some(value),
                _ => return Err(format!("unknown flag {}", flag.display())),
            }
        }
        Err("no command".to_owned())
    }
}

fn number(flag: &OsStr, value: Option<&OsStr>) -> Result<u64, String> {
    let number = value.and_then(OsStr::to_str).and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{} wants a number", flag.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_read_back_whatever_the_command_looks_like() {
        let orders = Orders {
            parent: 4711,
            grace: Duration::from_millis(1500),
            memory: Some(1 << 33),
            cpu_seconds: None,
            open_files: Some(64),
            command: "--memory".into(),
            args: vec!["--".into(), "".into(), "--files".into(), "a b".into()],
        };
        assert_eq!(Orders::parse(orders.to_args().into_iter()), Ok(orders));
    }

    #[test]
    fn wrong_orders_are_refused() {
        let parse = |line: &[&str]| Orders::parse(line.iter().map(OsString::from));
        assert_eq!(parse(&[]), Err("no command".into()));
        assert_eq!(parse(&["--"]), Err("no command".into()));
        assert_eq!(parse(&["--memory", "--", "x"]), Err("--memory wants a number".into()));
        assert_eq!(parse(&["--shell", "1", "--", "x"]), Err("unknown flag --shell".into()));
    }
}
