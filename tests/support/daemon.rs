//! The real `lightnode` binary: started, killed and restarted as a user would, and spoken to through its own
//! command line and its socket.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually::{eventually, eventually_ok, within};
use super::ports::free_port;
use super::process::{Process, peak_memory};
use super::world::World;

/// The binary under test.
pub(crate) const LIGHTNODE: &str = env!("CARGO_BIN_EXE_lightnode");

/// A node: its folder, its configuration, and the process while it runs.
pub(crate) struct Daemon {
    name: String,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
    surroundings: Vec<(String, OsString)>,
}

/// What no daemon of any test ever needs, whatever servers and peers send; about three times what it needs at rest, in bytes.
const MOST_MEMORY: u64 = 150_000_000;

impl Drop for Daemon {
    fn drop(&mut self) {
        let resident = self.resident().unwrap_or_default();
        assert!(resident < MOST_MEMORY || std::thread::panicking(), "{} held {resident} bytes at once", self.name);
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON value on its standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Daemon {
    /// A node that follows the world's servers, configured and not started.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        Self::with_servers(world, name, &world.servers())
    }

    /// A node that follows these servers (`tcp://host:port`).
    pub(crate) fn with_servers(world: &World, name: &str, servers: &[String]) -> Self {
        let folder = world.folder().join(name);
        std::fs::create_dir_all(&folder).expect("a folder in the test's own folder");
        let daemon = Self { name: name.into(), folder, port: free_port(), process: None, surroundings: Vec::new() };
        daemon.configure(servers, "");
        daemon
    }

    /// Writes the configuration anew, with `more` behind what every test needs.
    pub(crate) fn configure(&self, servers: &[String], more: &str) {
        let mut text = String::from("network = \"regtest\"\n");
        for server in servers {
            text += &format!("[[server]]\nurl = \"{server}\"\n");
        }
        text += &format!(
            "[node]\nalias = \"{}\"\nlisten = [\"127.0.0.1:{}\"]\n[log]\nlevel = \"debug\"\n{more}",
            self.name, self.port
        );
        // Esplora cannot push; a minute between two looks is for real servers.
        if servers.iter().any(|server| server.starts_with("http")) && !more.contains("[chain]") {
            text += "[chain]\npoll_interval_secs = 1\n";
        }
        // Nodes without coins take channels here; the reserve has tests of its own.
        if !more.contains("[channels]") {
            text += "[channels]\nreserve_sat = 0\n";
        }
        std::fs::write(self.folder.join("lightnode.toml"), text).expect("the test's own folder");
    }

    /// Puts a setting of no section before all others.
    pub(crate) fn prepend(&self, line: &str) {
        let file = self.folder.join("lightnode.toml");
        let text = std::fs::read_to_string(&file).expect("the test's own folder");
        std::fs::write(&file, format!("{line}\n{text}")).expect("the test's own folder");
    }

    /// Sets a variable of the environment of all later starts.
    pub(crate) fn surround(&mut self, key: &str, value: impl Into<OsString>) {
        self.surroundings.push((key.into(), value.into()));
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn started(mut self) -> Self {
        self.start();
        self.ready();
        self
    }

    /// Starts the process and returns at once.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the process with these variables in its environment, and returns at once.
    pub(crate) fn start_with(&mut self, variables: &[(&str, &str)]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = Command::new(LIGHTNODE);
        command.args(["--data-dir".as_ref(), self.folder.as_os_str(), "run".as_ref()]);
        command.env("XDG_STATE_HOME", self.state_home());
        command.envs(variables.iter().copied());
        command.env("LIGHTNODE_CRASH", self.folder.with_extension("crash"));
        command.envs(self.surroundings.iter().map(|(key, value)| (key, value)));
        self.process = Some(Process::spawn(&self.name, &command, &self.folder.with_extension("log")));
    }

    /// Waits until `status` says `ready`.
    pub(crate) fn ready(&self) {
        let what = format!("{} to be ready", self.name);
        eventually(&what, || self.run(&["status"]), |ran| ran.code == 0 && ran.json()["state"] == "ready");
    }

    /// Waits until its tip has reached `height`, and returns.
    pub(crate) fn at_height(&self, height: u32) {
        let what = format!("{} to reach block {height}", self.name);
        eventually(&what, || self.json(&["status"])["tip"]["height"].clone(), |seen| *seen == json!(height));
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("a running daemon").kill();
    }

    /// Ends it with `lightnode stop`, and checks that it leaves in good order.
    pub(crate) fn stop(&mut self) {
        self.json(&["stop"]);
        let mut process = self.process.take().expect("a running daemon");
        let status = process.wait(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status}\n{}", self.name, process.log().tail(40));
    }

    /// Keeps it from doing anything, with all its connections open, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&mut self) {
        self.process().signal("STOP");
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub(crate) fn thaw(&mut self) {
        self.process().signal("CONT");
    }

    /// The process, to look at or to signal.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running daemon")
    }

    /// True until it was seen to end, and reaped.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Takes the process away from this value, to wait for its end.
    pub(crate) fn take_process(&mut self) -> Process {
        self.process.take().expect("a running daemon")
    }

    /// Runs a command of its command line, JSON.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output();
        output.expect("the binary under test starts").into()
    }

    /// Runs a command that reads a line from its standard input.
    pub(crate) fn run_with_input(&self, words: &[&str], line: &str) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary under test starts");
        writeln!(child.stdin.take().expect("a pipe"), "{line}").expect("the command reads");
        child.wait_with_output().expect("the command ends").into()
    }

    /// Starts a command and does not wait for it.
    pub(crate) fn begin(&self, words: &[&str]) -> std::process::Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary under test starts")
    }

    /// The command itself, with nothing to read.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(LIGHTNODE);
        command.arg("--data-dir").arg(&self.folder).args(words).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.state_home());
        command.env("LIGHTNODE_CRASH", self.folder.with_extension("crash"));
        command
    }

    /// The JSON that a command prints; it must end with 0.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{}: lightnode {words:?}: {ran:?}", self.name);
        ran.json()
    }

    /// A request to the API on its socket: status and body.
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<Value>) -> std::io::Result<(u16, Value)> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = UnixStream::connect(self.socket())?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: lightnode\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Ok((code, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// Waits until the API answers, whatever the node's state, and returns what `status` says.
    pub(crate) fn answering(&self) -> Value {
        let what = format!("{} to answer", self.name);
        eventually_ok(&what, || self.api("GET", "/v1/status", None)).1
    }

    /// `node_id@host:port`
    pub(crate) fn peer(&self) -> String {
        format!("{}@127.0.0.1:{}", self.node_id(), self.port)
    }

    /// Its node id.
    pub(crate) fn node_id(&self) -> String {
        self.json(&["status"])["node_id"].as_str().expect("a node id").to_string()
    }

    /// A new on-chain address.
    pub(crate) fn address(&self) -> String {
        self.json(&["address"])["address"].as_str().expect("an address").to_string()
    }

    /// One figure of `balance`, in sat.
    pub(crate) fn balance(&self, field: &str) -> u64 {
        self.json(&["balance"])[field].as_u64().unwrap_or_else(|| panic!("balance has no figure {field}"))
    }

    /// Waits until a figure of `balance` is what is wanted.
    pub(crate) fn balance_is(&self, field: &str, wanted: u64) {
        let what = format!("{}: {field} to be {wanted}", self.name);
        eventually(&what, || self.balance(field), |seen| *seen == wanted);
    }

    /// Gives it a confirmed coin.
    pub(crate) fn funded(&self, world: &World, sat: u64) {
        let before = self.balance("onchain_confirmed_sat");
        world.bitcoind.pay(self.address(), sat);
        world.bitcoind.mine(1);
        self.balance_is("onchain_confirmed_sat", before + sat);
    }

    /// Its channels in a state.
    pub(crate) fn channels(&self, state: &str) -> Vec<Value> {
        let all = self.json(&["channels"]);
        let all = all.as_array().expect("a list of channels").iter();
        all.filter(|channel| channel["state"] == state).cloned().collect()
    }

    /// Waits until it has so many usable channels.
    pub(crate) fn usable(&self, count: usize) -> Vec<Value> {
        let what = format!("{} to have {count} usable channels", self.name);
        eventually(&what, || self.channels("usable"), |seen| seen.len() == count)
    }

    /// Waits until it lists no channel at all.
    pub(crate) fn without_channels(&self) {
        let what = format!("{} to have no channel", self.name);
        eventually(&what, || self.json(&["channels"]), |seen| seen.as_array().is_some_and(Vec::is_empty));
    }

    /// An invoice over `amount` (as on the command line).
    pub(crate) fn invoice(&self, amount: &str) -> String {
        self.json(&["receive", amount])["invoice"].as_str().expect("an invoice").to_string()
    }

    /// The line of its book, once it has this status.
    pub(crate) fn entry(&self, id: &str, status: &str) -> Value {
        let what = format!("{}: {id} to be {status}", self.name);
        let seen = within(
            Duration::from_secs(90),
            &what,
            || self.run(&["show", id]),
            |ran| ran.code == 0 && ran.json()["status"] == status,
        );
        seen.json()
    }

    /// The lines of its book of one kind (`channel_close`, `sweep` …), newest first.
    pub(crate) fn entries(&self, kind: &str) -> Vec<Value> {
        let page = self.json(&["history", "--limit", "1000"]);
        let all = page["entries"].as_array().expect("a list of entries").iter();
        all.filter(|entry| entry["kind"] == kind).cloned().collect()
    }

    /// Its data directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What belongs to the machine that the nodes of this test run on, and to none of their folders.
    pub(crate) fn state_home(&self) -> PathBuf {
        self.folder.with_file_name("machine")
    }

    /// A copy of its data directory as it is now, on another machine, that listens where this one did.
    pub(crate) fn copied(&self, name: &str) -> Self {
        let elsewhere = self.folder.with_file_name(format!("{name}-elsewhere"));
        std::fs::create_dir_all(&elsewhere).expect("the test's own folder");
        let folder = elsewhere.join(name);
        let copied = Command::new("cp").arg("-a").args([&self.folder, &folder]).status().expect("cp");
        assert!(copied.success(), "{} could not be copied", self.name);
        Self { name: name.into(), folder, port: self.port, surroundings: self.surroundings.clone(), process: None }
    }

    /// Its API socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("lightnode.sock")
    }

    /// The most memory that it held at once since it started, in bytes (resident).
    pub(crate) fn peak_memory(&self) -> u64 {
        self.resident().expect("a running daemon")
    }

    fn resident(&self) -> Option<u64> {
        peak_memory(&self.process.as_ref()?.pid().to_string())
    }

    /// What its log of this start holds.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("a running daemon").log().text()
    }
}
