//! The warden's last word: one line on stderr that says how the command ended.
//!
//! Always: the warden writes it when nothing else of the tree is left alive, so it is the last line before the end of
//! stderr. A line of the same form anywhere else came from the child and means nothing.

const PREFIX: &str = "switchyard-warden:";

/// How the command ended, as its warden saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// Exit code of the command.
    Exited(i32),
    /// Signal that ended it.
    Signalled(i32),
    /// The tree passed this limit, bytes, and was killed.
    MemoryLimit(u64),
    /// It never ran; the text says why.
    StartFailed(String),
}

impl Report {
    /// The line, with a newline before it in case the child left half a line behind.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "written by wardens only"))]
    pub(super) fn to_line(&self) -> String {
        match self {
            Report::Exited(code) => format!("\n{PREFIX} exited {code}\n"),
            Report::Signalled(signal) => format!("\n{PREFIX} signalled {signal}\n"),
            Report::MemoryLimit(limit) => format!("\n{PREFIX} memory {limit}\n"),
            Report::StartFailed(text) => format!("\n{PREFIX} start {}\n", text.replace('\n', " ")),
        }
    }

    /// Reads a line without its newline; `None` for any line that is not a report.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(PREFIX.as_bytes())?.strip_prefix(b" ")?;
        let (kind, detail) = std::str::from_utf8(rest).ok()?.split_once(' ')?;
        match kind {
            "exited" => detail.parse().ok().map(Report::Exited),
            "signalled" => detail.parse().ok().map(Report::Signalled),
            "memory" => detail.parse().ok().map(Report::MemoryLimit),
            "start" => Some(Report::StartFailed(detail.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_reads_back() {
        let reports = [
            Report::Exited(3),
            Report::Signalled(9),
            Report::MemoryLimit(1 << 40),
            Report::StartFailed("command not found: x (PATH is /bin)".into()),
        ];
        for report in reports {
            assert_eq!(Report::parse(report.to_line().trim().as_bytes()), Some(report));
        }
    }

    #[test]
    fn ordinary_lines_are_no_reports() {
        for line in
            ["", "exited 3", "switchyard-warden:", "switchyard-warden: exited", "switchyard-warden: exited x"]
        {
            assert_eq!(Report::parse(line.as_bytes()), None, "{line}");
        }
    }
}
