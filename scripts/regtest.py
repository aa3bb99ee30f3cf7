"""Real parts on regtest for the demo and the benchmarks: bitcoind, ElectrumX, lightnode daemons.

Everything listens on loopback, on ports that the system chose, in one temporary folder, and ends with the
`Regtest` block, also when it fails or is interrupted. LIGHTNODE_KEEP=1 leaves the folder.
"""

import base64
import ctypes
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# ElectrumX holds small replies back for up to a second, against traffic analysis. Python runs this before it; without
# the wait, the figures are those of the node and not of the server's patience.
NO_WAIT = """
try:
    from electrumx.server.transport import PaddedRSTransport
    PaddedRSTransport.WAIT_FOR_BUFFER_GROWTH_SECONDS = 0.0
except ImportError:
    pass
"""
DEADLINE = float(os.environ.get("LIGHTNODE_TEST_DEADLINE", "60"))
LIBC = ctypes.CDLL(None)
# What the caller has set for a node of his own is not for ours.
SURROUNDINGS = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNODE_")}


class Failed(Exception):
    """Said to the caller without a stack of Python."""


class CommandFailed(Failed):
    pass


def run(main):
    """Runs a script's `main`. A signal ends it as an error does: every `with` block clears up."""

    def interrupted(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        main()
    except (Failed, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def build():
    """The release binary, or the one that LIGHTNODE_BINARY names."""
    if named := os.environ.get("LIGHTNODE_BINARY"):
        return Path(named)
    command = ["cargo", "build", "--release", "--locked", "--bin", "lightnode"]
    cargo = subprocess.Popen(
        [*command, "--message-format=json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        # `executable` is null for what is no program.
        made = [json.loads(line).get("executable") for line in cargo.stdout]
        if cargo.wait():
            raise Failed(f"{' '.join(command)} failed")
    finally:
        if cargo.poll() is None:
            os.killpg(cargo.pid, signal.SIGTERM)
            cargo.wait()
    return Path([path for path in made if path][-1])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, condition, deadline=DEADLINE, step=0.02):
    """The first true answer of `condition`; fails with its last answer when the deadline passes."""
    end, last = time.monotonic() + deadline, None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except (OSError, http.client.HTTPException, CommandFailed) as error:
            last = error
        time.sleep(step)
    raise Failed(f"gave up after {deadline:.0f} s waiting for {what}; last seen: {last!r}")


def _die_with_parent():
    # PR_SET_PDEATHSIG = 1: no child outlives this script, however it ends.
    LIBC.prctl(1, signal.SIGKILL)


def short_folder(parent=None):
    """A new folder. A Unix socket has to fit into 100 bytes with its path, so not below a long TMPDIR."""
    parent = parent or tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="lightnode-", dir=parent if len(os.fsencode(parent)) < 60 else "/tmp"))


class Regtest:
    """bitcoind and ElectrumX, in a new folder below `parent`."""

    def __init__(self, parent=None):
        # What has to be fetched first is said on stderr.
        parts = subprocess.run([ROOT / "scripts/regtest-deps"], stdout=subprocess.PIPE, text=True)
        if parts.returncode:
            raise Failed("without bitcoind and ElectrumX there is nothing to run on")
        self.parts = dict(word.split("=", 1) for word in shlex.split(parts.stdout))
        self.children, self.logs = [], []
        self.folder = short_folder(parent)

    def __enter__(self):
        try:
            self._start_bitcoind()
            self._start_electrumx()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        # A second Ctrl-C does not keep us from clearing up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if kind and issubclass(kind, Exception):
            self._show_logs()
        for child in reversed(self.children):
            child.terminate()
        for child in reversed(self.children):
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if os.environ.get("LIGHTNODE_KEEP"):
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _show_logs(self):
        for log in self.logs:
            print(f"--- the end of {log.name}", file=sys.stderr)
            print(*log.read_text(errors="replace").splitlines()[-12:], sep="\n", file=sys.stderr)

    def spawn(self, name, command, env=None):
        path = self.folder / f"{name}.log"
        if path not in self.logs:
            self.logs.append(path)
        with open(path, "ab") as log:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**SURROUNDINGS, **(env or {})},
                preexec_fn=_die_with_parent,
                # Ctrl-C in a terminal is for this script alone, which ends them in order.
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def _start_bitcoind(self):
        data, self.rpc_port = self.folder / "bitcoind", free_port()
        data.mkdir()
        self.spawn(
            "bitcoind",
            [
                self.parts["BITCOIND"], "-regtest", f"-datadir={data}", f"-rpcport={self.rpc_port}",
                "-rpcuser=demo", "-rpcpassword=demo", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1",
                "-server", "-listen=0", "-dnsseed=0", "-fixedseeds=0", "-discover=0", "-txindex=1",
                "-fallbackfee=0.0002", "-printtoconsole=0",
            ],
        )
        eventually("bitcoind", lambda: self.rpc("getblockchaininfo"))
        self.rpc("createwallet", "miner")
        self.miner = self.rpc("getnewaddress")
        self.mine(110)

    def _start_electrumx(self):
        data, self.electrum_port = self.folder / "electrumx", free_port()
        data.mkdir()
        (data / "shim").mkdir()
        (data / "shim/sitecustomize.py").write_text(NO_WAIT)
        self.spawn(
            "electrumx",
            [self.parts["ELECTRUMX"]],
            env={
                "PYTHONPATH": str(data / "shim"), "COIN": "Bitcoin", "NET": "regtest", "DB_DIRECTORY": str(data),
                "ALLOW_ROOT": "1", "DAEMON_URL": f"http://demo:demo@127.0.0.1:{self.rpc_port}/",
                "SERVICES": f"tcp://127.0.0.1:{self.electrum_port},rpc://127.0.0.1:{free_port()}",
                "PEER_DISCOVERY": "", "COST_SOFT_LIMIT": "0", "COST_HARD_LIMIT": "0",
                "DAEMON_POLL_INTERVAL_BLOCKS": "100", "DAEMON_POLL_INTERVAL_MEMPOOL": "100",
            },
        )
        eventually("ElectrumX", lambda: socket.create_connection(("127.0.0.1", self.electrum_port), 1).close() or True)

    def rpc(self, method, *params):
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=30)
        login = base64.b64encode(b"demo:demo").decode()
        connection.request(
            "POST", "/", json.dumps({"id": 0, "method": method, "params": params}),
            {"Authorization": f"Basic {login}"},
        )
        answer = json.loads(connection.getresponse().read() or b"{}")
        connection.close()
        if answer.get("error"):
            raise CommandFailed(f"bitcoind {method}: {answer['error']}")
        return answer.get("result")

    def mine(self, blocks):
        return self.rpc("generatetoaddress", blocks, self.miner)

    def pay(self, address, sat):
        return self.rpc("sendtoaddress", address, f"{sat / 1e8:.8f}")

    def height(self):
        return self.rpc("getblockcount")


class Daemon:
    """A lightnode daemon, driven by its own command line."""

    def __init__(self, world, name, binary, electrum_port=None):
        self.world, self.name, self.binary = world, name, binary
        self.folder = world.folder / name
        self.folder.mkdir()
        self.port = free_port()
        (self.folder / "lightnode.toml").write_text(
            'network = "regtest"\n'
            f'[[server]]\nurl = "tcp://127.0.0.1:{electrum_port or world.electrum_port}"\n'
            f'[node]\nalias = "{name}"\nlisten = ["127.0.0.1:{self.port}"]\n'
        )
        self.child = None

    def start(self, env=None):
        # The generation marks of these nodes are not for the machine's own state directory.
        env = {"XDG_STATE_HOME": str(self.world.folder / "machine"), **(env or {})}
        self.child = self.world.spawn(self.name, self.command("run"), env)
        return self

    def stop(self):
        self.cli("stop")
        self.child.wait(20)

    def command(self, *words):
        return [str(word) for word in (self.binary, "--data-dir", self.folder, *words)]

    def cli(self, *words):
        """The JSON that a command prints."""
        try:
            ran = subprocess.run(
                self.command("--json", *words), capture_output=True, text=True, timeout=120, env=SURROUNDINGS
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self.name}: {error}") from error
        if ran.returncode:
            raise CommandFailed(f"{self.name}: lightnode {' '.join(map(str, words))}: {ran.stdout}{ran.stderr}".strip())
        return json.loads(ran.stdout) if ran.stdout.strip() else None

    def peer(self):
        return f"{self.cli('status')['node_id']}@127.0.0.1:{self.port}"

    def ready(self):
        eventually(f"{self.name} to be ready", lambda: self.cli("status")["state"] == "ready")
        return self

    def usable_channels(self):
        return [channel for channel in self.cli("channels") if channel["state"] == "usable"]
