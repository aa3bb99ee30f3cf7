"""`scripts/bench store`: fsync calls and bytes written for each kind of payment, and for an idle day.

Three nodes in a row, counted from outside at each of them: a payment over one channel is sent by the first and received
by the second, one over both channels is forwarded by the second. What is written within three seconds after the last one
is counted to them, and so is the bringing of SQLite's log into the database, which comes every 4 MB of log.

The idle day is not waited for. A quiet span is measured, and some blocks with nothing of ours; the day is the span as
often as it goes into 24 hours, and 144 such blocks. The map of the network and the experience with it are as good as empty
here; on mainnet each of them adds 6 MB a day at most (A_DAY in src/store/debounce.rs, written twice).
"""

import time

from counting import Syncs, row, written_kb
from regtest import Daemon, eventually

CHANNEL, DEPOSIT = 500_000, 1_000_000
BLOCKS_A_DAY, SECONDS_A_DAY = 144, 24 * 3600
# Of the peer (ldk-server on ldk-node 0.7) only sending was measured.
PEER_SENT = (95, 973)
BUDGET = (10, 120)
IDLE_DAY_MB = 20


class Node:
    """A daemon with its counters."""

    def __init__(self, world, name, binary):
        self.syncs = Syncs(world.folder, f"syncs-{name}")
        self.daemon = Daemon(world, name, binary).start(self.syncs.env).ready()
        self.mark()

    def mark(self):
        self.synced, self.written = self.syncs.count(), written_kb(self.daemon.child)

    def since(self):
        """fsync calls and kB since the last mark."""
        return self.syncs.count() - self.synced, written_kb(self.daemon.child) - self.written


def fund(world, node):
    world.pay(node.daemon.cli("address")["address"], DEPOSIT)
    world.mine(1)
    eventually("a deposit", lambda: node.daemon.cli("balance")["onchain_confirmed_sat"] == DEPOSIT)


def connect(world, opener, other):
    ends = [opener.daemon, other.daemon]
    before = [len(end.usable_channels()) for end in ends]
    opened = opener.daemon.cli("open", other.daemon.peer(), CHANNEL)
    eventually("the funding", lambda: opened["funding_txid"] in world.rpc("getrawmempool"))
    world.mine(6)
    for end, had in zip(ends, before):
        eventually("the channel", lambda: len(end.usable_channels()) > had)


def at_rest(nodes):
    moving = lambda node: any(channel["pending_htlcs"] for channel in node.daemon.cli("channels"))  # noqa: E731
    eventually("the payments to be settled", lambda: not any(moving(node) for node in nodes))
    time.sleep(3)


def payments(nodes, rounds):
    """fsync calls and kB of each node for one payment from the first to the last of them."""
    # Invoices are written, too, and are no payments.
    invoices = [nodes[-1].daemon.cli("receive", 1000)["invoice"] for _ in range(rounds)]
    # The first payment makes what the later ones use again.
    nodes[0].daemon.cli("pay", invoices.pop())
    at_rest(nodes)
    for node in nodes:
        node.mark()
    for invoice in invoices:
        nodes[0].daemon.cli("pay", invoice)
    at_rest(nodes)
    return [[count / len(invoices) for count in node.since()] for node in nodes]


def show(kind, counts, peer=(None, None)):
    row(f"fsyncs for one {kind} payment", counts[0], BUDGET[0], peer[0])
    row(f"written for one {kind} payment", counts[1], BUDGET[1], peer[1], "kB")


def idle(world, node, seconds, blocks):
    """MB of an idle day, and how they come about."""
    time.sleep(3)
    node.mark()
    time.sleep(seconds)
    _, quiet = node.since()
    node.mark()
    for _ in range(blocks):
        world.mine(1)
        eventually("a block", lambda: node.daemon.cli("status")["tip"]["height"] == world.height())
        # As far apart as the node's own patience needs, so that what waits for company is not spared.
        time.sleep(2)
    syncs, told = node.since()
    quiet_day, blocks_day = quiet * SECONDS_A_DAY / seconds / 1000, told * BLOCKS_A_DAY / blocks / 1000
    row("fsyncs for a block with nothing of ours", syncs / blocks, None, None)
    row("written for a block with nothing of ours", told / blocks, None, None, "kB")
    note = f"{quiet_day:.2f} from {seconds} quiet s ({quiet:.0f} kB), {blocks_day:.2f} from {BLOCKS_A_DAY} blocks"
    row("written in an idle day", quiet_day + blocks_day, IDLE_DAY_MB, None, "MB", note)


def measure(world, binary, quick):
    rounds, quiet, blocks = (10, 20, 5) if quick else (50, 360, 24)
    alice, bob, carol = (Node(world, name, binary) for name in ("alice", "bob", "carol"))
    for node in (alice, bob, carol):
        fund(world, node)
    connect(world, alice, bob)
    connect(world, bob, carol)
    sent, received = payments([alice, bob], rounds)
    show("sent", sent, PEER_SENT)
    show("received", received)
    _, forwarded, _ = payments([alice, bob, carol], rounds)
    show("forwarded", forwarded)
    idle(world, bob, quiet, blocks)
    for node in (alice, bob, carol):
        node.daemon.stop()
