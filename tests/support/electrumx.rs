//! A real ElectrumX in front of a bitcoind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::eventually::poll;
use super::identity::Identity;
use super::ports::free_port;
use super::process::Process;
use super::tools::tools;

const START: Duration = Duration::from_secs(60);

/// How often ElectrumX asks bitcoind for news, in milliseconds.
const POLL: &str = "50";

/// ElectrumX pads its replies against traffic analysis, and holds small ones back for up to a second in the hope of
/// more to send along. Python runs this before ElectrumX; without the wait, tests that converse are not a second slower
/// for each reply.
const NO_WAIT: &str = "\
try:
    from electrumx.server.transport import PaddedRSTransport
    PaddedRSTransport.WAIT_FOR_BUFFER_GROWTH_SECONDS = 0.0
except ImportError:
    pass
";

/// An ElectrumX server with a TCP and a TLS port. Both stay the same over [`stop`](Self::stop) and
/// [`start`](Self::start).
pub(crate) struct ElectrumX {
    program: PathBuf,
    folder: PathBuf,
    bitcoind: String,
    tcp: u16,
    tls: u16,
    identity: Identity,
    hurried: bool,
    process: Option<Process>,
}

impl ElectrumX {
    /// Starts ElectrumX in `folder`, which may hold an earlier run's index. Returns before it serves.
    pub(crate) fn spawn(folder: &Path, bitcoind: &str) -> Self {
        let mut server = Self::new(&tools().electrumx, folder, bitcoind);
        server.launch();
        server
    }

    /// Starts ElectrumX and waits until it serves the whole chain of `bitcoind`.
    pub(crate) fn run(folder: &Path, bitcoind: &str) -> Self {
        let mut server = Self::new(&tools().electrumx, folder, bitcoind);
        server.start();
        server
    }

    /// As [`run`](Self::run), the last version that answers LDK's own client.
    pub(crate) fn run_old(folder: &Path, bitcoind: &str) -> Self {
        let mut server = Self::new(&tools().electrumx_old, folder, bitcoind);
        server.start();
        server
    }

    /// One that is not started.
    pub(crate) fn idle(folder: &Path, bitcoind: &str) -> Self {
        Self::new(&tools().electrumx, folder, bitcoind)
    }

    fn new(program: &Path, folder: &Path, bitcoind: &str) -> Self {
        std::fs::create_dir_all(folder.join("shim")).expect("a folder for ElectrumX");
        std::fs::write(folder.join("shim/sitecustomize.py"), NO_WAIT).expect("a folder for ElectrumX");
        let (folder, bitcoind) = (folder.into(), bitcoind.into());
        let (tcp, tls) = (free_port(), free_port());
        let (program, identity) = (program.into(), Identity::new());
        Self { program, folder, bitcoind, tcp, tls, identity, hurried: true, process: None }
    }

    fn launch(&mut self) {
        let (certificate, key) = self.identity.write_to(&self.folder);
        let mut command = Command::new(&self.program);
        command
            .env("COIN", "Bitcoin")
            .env("NET", "regtest")
            .env("DAEMON_URL", &self.bitcoind)
            .env("DB_DIRECTORY", &self.folder)
            .env("SERVICES", format!("tcp://127.0.0.1:{},ssl://127.0.0.1:{}", self.tcp, self.tls))
            .env("SSL_CERTFILE", certificate)
            .env("SSL_KEYFILE", key)
            .env("ALLOW_ROOT", "1")
            .env("PEER_DISCOVERY", "")
            .env("PEER_ANNOUNCE", "")
            .env("COST_SOFT_LIMIT", "0")
            .env("COST_HARD_LIMIT", "0")
            .env("CACHE_MB", "16")
            .env("DAEMON_POLL_INTERVAL_BLOCKS", POLL)
            .env("DAEMON_POLL_INTERVAL_MEMPOOL", POLL);
        if self.hurried {
            command.env("PYTHONPATH", self.folder.join("shim"));
        }
        self.process = Some(Process::spawn("ElectrumX", &command, &self.folder.join("electrumx.log")));
    }

    /// Waits until it serves. An error means that it ended or that one of its ports was taken.
    pub(crate) fn wait_ready(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().expect("it was launched");
        let [tcp, tls] = [self.tcp, self.tls].map(|port| format!("server listening on 127.0.0.1:{port}"));
        let look = || {
            let text = process.log().text();
            if text.contains(&tcp) && text.contains(&tls) {
                return Ok(());
            }
            let hopeless = text.contains("failed to listen") || process.exit_status().is_some();
            Err((hopeless, format!("ElectrumX does not serve:\n{}", process.log().tail(20))))
        };
        match poll(START, look, |(hopeless, _)| *hopeless) {
            Ok(()) => Ok(()),
            Err((true, why)) => Err(why),
            Err((false, why)) => panic!("{why}"),
        }
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same ports, and waits until it serves.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "ElectrumX already runs");
        self.launch();
        if let Err(why) = self.wait_ready() {
            panic!("{why}");
        }
    }

    /// Ends it in an orderly way: clients are disconnected, the index is written.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("ElectrumX runs");
        process.terminate();
        process.wait(Duration::from_secs(60));
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("ElectrumX runs").kill();
    }

    /// Gives it another certificate, which it uses from its next start.
    pub(crate) fn change_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// From its next start it holds small replies back for up to a second, as it does by default elsewhere.
    pub(crate) fn take_your_time(&mut self) {
        self.hurried = false;
    }

    /// Where it speaks in the clear.
    pub(crate) fn tcp(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.tcp).into()
    }

    /// Where it speaks TLS, with [`identity`](Self::identity).
    pub(crate) fn tls(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.tls).into()
    }

    /// Its self-signed certificate.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }
}
