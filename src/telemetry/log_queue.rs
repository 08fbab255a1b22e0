//! Log lines on their way to stderr.
//!
//! Always: whoever logs waits for no terminal, pipe or disk: lines are queued up to a bound, and those that find no room
//! are dropped and counted; the count is told once there is room again. A thread of its own writes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes waiting to be written, at most.
const CAPACITY: usize = 4 * 1024 * 1024;

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A line has come.
    filled: Condvar,
    /// Everything has been written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// Bytes of `lines`.
    waiting: usize,
    /// Lines dropped and not told yet.
    untold: u64,
    /// The thread has taken lines and not written them all.
    writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `output`; `tell_dropped` is the line for dropped ones.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        tell_dropped: fn(u64) -> String,
    ) -> io::Result<LogQueue> {
        let shared = Arc::new(Shared::default());
        let queue = LogQueue(shared.clone());
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_all(output, tell_dropped))?;
        Ok(queue)
    }

    /// Waits until everything is written, or `patience` is over.
    pub(super) fn flush(&self, patience: Duration) {
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        // Whether the time was enough makes no difference to what can still be done.
        drop(self.0.drained.wait_timeout_while(self.0.lock(), patience, busy));
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting + line.len() > CAPACITY {
            state.untold += 1;
            return;
        }
        state.waiting += line.len();
        state.lines.push_back(line.into());
        drop(state);
        self.0.filled.notify_one();
    }
}

impl Shared {
    /// A panic while logging must not end all logging: the state is consistent between statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut output: impl Write, tell_dropped: fn(u64) -> String) {
        loop {
            let (lines, untold) = self.take();
            for line in lines {
                // There is nowhere to tell that stderr is gone.
                _ = output.write_all(&line);
            }
            if untold > 0 {
                _ = writeln!(output, "{}", tell_dropped(untold));
            }
            _ = output.flush();
        }
    }

    /// Waits for lines, or for a count of dropped ones.
    fn take(&self) -> (VecDeque<Box<[u8]>>, u64) {
        let mut state = self.lock();
        state.writing = false;
        if state.lines.is_empty() {
            self.drained.notify_all();
        }
        while state.lines.is_empty() {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        state.waiting = 0;
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.untold))
    }
}

/// One event: the subscriber formats it whole and writes it once.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogQueue;

    fn make_writer(&'a self) -> LogQueue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Output that takes nothing until it is let.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Open for good once the other side is dropped.
            _ = self.open.recv();
            _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_stops_nobody_and_dropped_lines_are_counted() {
        let (open, gate) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let output = Gate { open: gate, written: sender };
        let mut queue = LogQueue::start(output, |count| format!("dropped {count}")).expect("a thread");
        let line = [b'x'; 64 * 1024];
        for _ in 0..1000 {
            queue.write_all(&line).expect("a queue takes everything");
        }
        queue.flush(Duration::from_millis(1));
        drop(open);
        queue.flush(Duration::from_secs(10));
        let all: Vec<Vec<u8>> = written.try_iter().collect();
        let lines = all.iter().filter(|bytes| bytes.starts_with(b"x")).count();
        let text = String::from_utf8_lossy(&all.concat()).into_owned();
        // It is told whenever there is room again, which may be more than once.
        let counts =
            text.split("dropped ").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let dropped: usize =
            counts.map(|count| count.and_then(|count| count.parse::<usize>().ok()).expect("a number")).sum();
        assert_eq!(lines + dropped, 1000);
        assert!((64..=129).contains(&lines), "{lines} lines of 64 KiB found room in 4 MiB, twice at most");
    }
}
