//! A child process that cannot outlive the test.
//!
//! Dropping the value kills the process. If the test binary itself is killed, nothing is dropped; therefore every
//! child hangs on a leash: a pipe whose other end only the test binary holds. A shell starts a small watcher that
//! reads from the pipe, then becomes the program itself (so the process id is the program's own). When the pipe
//! closes without a word, the watcher kills the program.
//!
//! Chosen over `prctl(PR_SET_PDEATHSIG)`: that needs unsafe code and fires when the spawning *thread* ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::eventually::{Diagnostic, poll};

const LEASH: &str = r#"
exec 9<&0
( read -r word <&9 || kill -9 $$ ) </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 9<&-
"#;

/// Lines of the log that a failed test prints.
const TAIL: usize = 40;

/// A running program, killed when this is dropped or the test binary dies.
pub(crate) struct Process {
    name: String,
    child: Child,
    leash: ChildStdin,
    exited: Option<ExitStatus>,
    log: Log,
    _diagnostic: Diagnostic,
}

impl Process {
    /// Starts `command` (program, arguments, environment and folder are taken from it; not its stdio) with both
    /// outputs appended to the file `log`.
    pub(crate) fn spawn(name: &str, command: &Command, log: &Path) -> Self {
        let log = Log::open(log);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", LEASH, name]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.stdin(Stdio::piped()).stdout(log.writer()).stderr(log.writer());
        let mut child = shell.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let leash = child.stdin.take().expect("stdin was asked for as a pipe");
        let shown = log.clone();
        let diagnostic = Diagnostic::new(format!("{name}, end of its log"), move || shown.tail(TAIL));
        Self { name: name.into(), child, leash, exited: None, log, _diagnostic: diagnostic }
    }

    /// The program's own process id, as long as it was not seen to end.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("own child");
            if self.exited.is_some() {
                self.unleash();
            }
        }
        self.exited
    }

    /// Asks it to end (SIGTERM) and returns at once.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Sends it a signal, by name, unless it has ended.
    pub(crate) fn signal(&mut self, name: &str) {
        if self.exit_status().is_none() {
            let sent = signal(self.pid(), name);
            assert!(sent || self.exit_status().is_some(), "cannot signal {}", self.name);
        }
    }

    /// Ends it at once (SIGKILL), as a power cut would, and reaps it.
    pub(crate) fn kill(&mut self) {
        if self.exit_status().is_none() {
            self.unleash();
            self.child.kill().expect("own child");
            self.exited = Some(self.child.wait().expect("own child"));
        }
    }

    /// Waits for it to end by itself. Panics after `span`.
    pub(crate) fn wait(&mut self, span: Duration) -> ExitStatus {
        match poll(span, || self.exit_status().ok_or(()), |()| false) {
            Ok(status) => status,
            Err(()) => panic!("{} still runs after {span:?}\n{}", self.name, self.log.tail(TAIL)),
        }
    }

    /// What it has written since this start.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Tells the watcher that the process id is no longer its business.
    fn unleash(&mut self) {
        // The watcher is gone if someone killed the whole group; then there is nothing to tell.
        let _ = self.leash.write_all(b"done\n");
    }
}

/// Sends a signal to a process that the test started. False if there is no such process any more.
pub(crate) fn signal(pid: u32, name: &str) -> bool {
    let kill = Command::new("/bin/sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid.to_string()]).status();
    kill.expect("a shell").success()
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.unleash();
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            self.unleash();
        }
    }
}

/// The most memory that a process held at once, in bytes (resident); `None` when there is no such process. `self` is this one.
pub(crate) fn peak_memory(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A log file from the place where one start of a program began to write.
#[derive(Clone)]
pub(crate) struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    fn open(path: &Path) -> Self {
        let from = std::fs::metadata(path).map_or(0, |meta| meta.len());
        Self { path: path.into(), from }
    }

    fn writer(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.path).expect("a log file in the test's own folder")
    }

    /// The whole text so far.
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let read = file.seek(SeekFrom::Start(self.from)).and_then(|_| file.read_to_end(&mut bytes));
            read.expect("a log file in the test's own folder");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it holds `needle` by now.
    pub(crate) fn contains(&self, needle: &str) -> bool {
        self.text().contains(needle)
    }

    /// The last `count` lines.
    pub(crate) fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
