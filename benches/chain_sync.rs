//! What following the chain costs: our engine beside LDK's own (`lightning-transaction-sync`), in one run, on one server
//! (ElectrumX 1.18, the last that answers LDK's client).
//!
//! For 1, 10, 100 and 1,000 watched outputs: requests, bytes in both directions, and the time from the server's word of
//! a block to the last call that reaches LDK. Ours hears of a block from the server. LDK's engine looks when it is told to;
//! here it is told in that same moment, which is the best that a program around it could do (LDK Node looks every
//! 30 s). In an idle minute it therefore looks twice. Its last call for a block without anything of ours is the tip, which
//! it tells before it has looked for anything; ours is told when it has.
//!
//! `cargo bench --bench chain_sync`, or `scripts/bench chain_sync`; with `quick`, fewer rounds and a shorter idle span.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bitcoin::OutPoint;
use serde_json::{Map, json};

use support::electrumx::ElectrumX;
use support::engines::{Ours, Theirs};
use support::eventually::eventually;
use support::locks::{Lock, output_of};
use support::probe::Probe;
use support::recorder::{Family, Recorder};
use support::world::World;

/// LDK Node's default for looks at the chain of its channels, in seconds.
const LOOK_EVERY: u64 = 30;
/// What each output holds, in sat.
const OUTPUT: u64 = 10_000;

struct Plan {
    watched: &'static [usize],
    rounds: usize,
    idle: Duration,
}

fn plan() -> Plan {
    match std::env::args().any(|word| word == "quick") {
        true => Plan { watched: &[1, 10, 100], rounds: 3, idle: Duration::from_secs(5) },
        false => Plan { watched: &[1, 10, 100, 1000], rounds: 9, idle: Duration::from_secs(60) },
    }
}

fn main() {
    let plan = plan();
    let bench = Bench::new();
    println!("{:>7}  {:<22} {:>24} {:>24}  at most", "watched", "", "ours", "LDK's own");
    let pairs: Vec<Pair> = plan.watched.iter().map(|watched| bench.pair(*watched)).collect();
    for pair in &pairs {
        bench.unrelated_blocks(pair, plan.rounds);
    }
    let mut pairs = pairs;
    for pair in &mut pairs {
        bench.spends(pair, plan.rounds);
    }
    bench.idle(&pairs, plan.idle);
    for pair in pairs {
        bench.restart(pair);
    }
}

struct Bench {
    world: World,
    server: ElectrumX,
}

/// Both engines with the same outputs, each behind a counter.
struct Pair {
    watched: usize,
    ours: Ours,
    theirs: Theirs,
    our_line: Counter,
    their_line: Counter,
    coins: Vec<OutPoint>,
}

/// Requests, bytes, and milliseconds where they were taken.
#[derive(Clone, Copy, Default)]
struct Cost {
    requests: f64,
    bytes: f64,
    millis: Option<f64>,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let server = world.old_electrumx();
        Self { world, server }
    }

    /// Both, following the outputs of one transaction in a block.
    fn pair(&self, watched: usize) -> Pair {
        let bitcoind = &self.world.bitcoind;
        let family = Family::default();
        let locks: Vec<Lock> = (0..watched).map(|index| lock(watched, index)).collect();
        let mut outputs = Map::new();
        for lock in &locks {
            outputs.insert(lock.address().to_string(), json!(OUTPUT as f64 / 1e8));
            family.add(lock.script());
        }
        let skip = serde_json::Value::Null;
        // comment, subtractfeefrom, replaceable, conf_target, estimate_mode, fee_rate
        let more = [json!(""), json!([]), json!(true), skip.clone(), skip, json!(2)];
        let params: Vec<_> = [json!(""), json!(outputs), json!(1)].into_iter().chain(more).collect();
        let txid = bitcoind.call("sendmany", &params);
        bitcoind.mine(1);
        let tx = bitcoind.raw_tx(txid);
        let coins: Vec<OutPoint> = locks.iter().map(|lock| output_of(&tx, *lock)).collect();

        let recorders = [(); 2].map(|()| Recorder::new(family.clone()));
        for recorder in &recorders {
            recorder.watch_transaction(txid, locks[0].script());
            for (coin, lock) in coins.iter().zip(&locks) {
                recorder.watch_output(*coin, lock.script());
            }
        }
        let [for_ours, for_theirs] = recorders;
        let (our_line, their_line) = (Counter::start(self.server.tcp()), Counter::start(self.server.tcp()));
        let ours = Ours::start(&our_line.url(), for_ours);
        let theirs = Theirs::start(&their_line.url(), for_theirs);
        let pair = Pair { watched, ours, theirs, our_line, their_line, coins };
        self.settled(&mut self.probe());
        self.ours(&pair, Instant::now());
        self.theirs(&pair);
        pair
    }

    fn probe(&self) -> Probe {
        Probe::connect(self.server.tcp())
    }

    /// Waits until the server is where bitcoind is.
    fn settled(&self, probe: &mut Probe) {
        let best = self.world.bitcoind.best_hash();
        eventually("ElectrumX announces the best block", || probe.tip(), |tip| *tip == best);
    }

    /// Until ours has told all, counted from `begun`.
    fn ours(&self, pair: &Pair, begun: Instant) -> f64 {
        pair.ours.synced(self.world.bitcoind.best_hash());
        let last = pair.ours.recorder.last_call().map(|at| at.saturating_duration_since(begun));
        pair.ours.recorder.take_calls();
        last.unwrap_or_default().as_secs_f64() * 1e3
    }

    /// One look of theirs.
    fn theirs(&self, pair: &Pair) -> f64 {
        let begun = Instant::now();
        pair.theirs.sync().unwrap();
        let last = pair.theirs.recorder.last_call().map(|at| at.saturating_duration_since(begun));
        pair.theirs.recorder.take_calls();
        last.unwrap_or_default().as_secs_f64() * 1e3
    }

    /// One block, which `mine` makes; what it costs both.
    fn block(&self, pair: &Pair, mine: impl FnOnce()) -> (Cost, Cost) {
        let mut probe = self.probe();
        self.settled(&mut probe);
        let (our_mark, their_mark) = (pair.our_line.read(), pair.their_line.read());
        mine();
        probe.notification("blockchain.headers.subscribe", Duration::from_secs(30)).unwrap();
        let heard = Instant::now();
        let ours = self.ours(pair, heard);
        // What comes late is counted too.
        std::thread::sleep(Duration::from_millis(400));
        let theirs = self.theirs(pair);
        (pair.our_line.since(our_mark, Some(ours)), pair.their_line.since(their_mark, Some(theirs)))
    }

    fn unrelated_blocks(&self, pair: &Pair, rounds: usize) {
        let mine = || {
            self.world.bitcoind.mine_exactly(&[]);
        };
        let costs = (0..rounds).map(|_| self.block(pair, mine));
        let (ours, theirs) = median(costs.collect());
        row(pair.watched, "an unrelated block", ours, theirs, "1 request, 100 ms", ours.requests > 1.0 || late(ours));
    }

    fn spends(&self, pair: &mut Pair, rounds: usize) {
        let coins = std::mem::take(&mut pair.coins);
        let costs = coins.iter().enumerate().take(rounds).map(|(index, coin)| {
            self.block(pair, || {
                let tx = lock(pair.watched, index).spend(*coin, OUTPUT - 1_000, Lock(u64::MAX));
                let txid = self.world.bitcoind.broadcast(&tx).unwrap();
                self.world.bitcoind.mine_exactly(&[txid]);
            })
        });
        let (ours, theirs) = median(costs.collect());
        row(
            pair.watched,
            "a block that spends one",
            ours,
            theirs,
            "6 requests, 100 ms",
            ours.requests > 6.0 || late(ours),
        );
        pair.coins = coins;
    }

    fn idle(&self, pairs: &[Pair], span: Duration) {
        // Looks of theirs that find a new block cost more; those are other rows.
        for pair in pairs {
            self.theirs(pair);
        }
        let marks: Vec<_> = pairs.iter().map(|pair| (pair.our_line.read(), pair.their_line.read())).collect();
        std::thread::sleep(span);
        for (pair, (our_mark, their_mark)) in pairs.iter().zip(marks) {
            let ours = pair.our_line.since(our_mark, None);
            self.theirs(pair);
            let look = pair.their_line.since(their_mark, None);
            let looks = 60.0 / LOOK_EVERY as f64;
            let theirs = Cost { requests: look.requests * looks, bytes: look.bytes * looks, millis: None };
            let what = format!("{} idle s (theirs: 60)", span.as_secs());
            row(pair.watched, &what, ours, theirs, "0 requests", ours.requests > 0.0);
        }
    }

    fn restart(&self, pair: Pair) {
        let Pair { watched, mut ours, theirs, our_line, their_line, coins } = pair;
        ours.stop();
        let recorder = Arc::clone(&theirs.recorder);
        drop(theirs);
        let (our_mark, their_mark) = (our_line.read(), their_line.read());
        let begun = Instant::now();
        ours.start_again();
        let theirs = {
            let mut pair =
                Pair { watched, ours, theirs: Theirs::start(&their_line.url(), recorder), our_line, their_line, coins };
            let millis = self.ours(&pair, begun);
            let cost = pair.our_line.since(our_mark, Some(millis));
            let millis = self.theirs(&pair);
            pair.ours.stop();
            (cost, pair.their_line.since(their_mark, Some(millis)))
        };
        row(
            watched,
            "after a restart",
            theirs.0,
            theirs.1,
            "1 request an output, and 15",
            theirs.0.requests > watched as f64 + 15.0,
        );
    }
}

/// Another one for each output of each pair.
fn lock(watched: usize, index: usize) -> Lock {
    Lock((watched as u64) << 32 | index as u64)
}

fn late(cost: Cost) -> bool {
    cost.millis.is_some_and(|millis| millis > 100.0)
}

/// The middle of each figure.
fn median(costs: Vec<(Cost, Cost)>) -> (Cost, Cost) {
    let middle = |figure: &dyn Fn(&(Cost, Cost)) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let of = |side: &dyn Fn(&(Cost, Cost)) -> Cost| Cost {
        requests: middle(&|both| side(both).requests),
        bytes: middle(&|both| side(both).bytes),
        millis: Some(middle(&|both| side(both).millis.unwrap_or_default())),
    };
    (of(&|both| both.0), of(&|both| both.1))
}

fn row(watched: usize, what: &str, ours: Cost, theirs: Cost, budget: &str, over: bool) {
    let shown = |cost: Cost| {
        let millis = cost.millis.map_or(String::new(), |millis| format!("{millis:>6.0} ms"));
        format!("{:>5.0} req {:>6.1} kB {millis:>9}", cost.requests, cost.bytes / 1e3)
    };
    let over = if over { "  OVER BUDGET" } else { "" };
    println!("{watched:>7}  {what:<22} {:>24} {:>24}  {budget}{over}", shown(ours), shown(theirs));
}

/// Passes lines on and counts them.
struct Counter {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Counter {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (Arc::clone(&requests), Arc::clone(&bytes));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(server).unwrap());
                for end in [&near, &far] {
                    end.set_nodelay(true).unwrap();
                }
                let nothing = Arc::new(AtomicU64::new(0));
                let ways = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&counters.0)),
                    (far, near, nothing),
                ];
                for (from, to, lines) in ways {
                    let bytes = Arc::clone(&counters.1);
                    std::thread::spawn(move || pump(from, to, &lines, &bytes));
                }
            }
        });
        Self { address, requests, bytes }
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    fn read(&self) -> (u64, u64) {
        (self.requests.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }

    fn since(&self, mark: (u64, u64), millis: Option<f64>) -> Cost {
        let (requests, bytes) = self.read();
        Cost { requests: (requests - mark.0) as f64, bytes: (bytes - mark.1) as f64, millis }
    }
}

fn pump(from: TcpStream, mut to: TcpStream, lines: &AtomicU64, bytes: &AtomicU64) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        lines.fetch_add(1, Ordering::SeqCst);
        bytes.fetch_add(line.len() as u64, Ordering::SeqCst);
        if to.write_all(&line).is_err() {
            break;
        }
        line.clear();
    }
    // Closing alone would not wake the other pump.
    let _ = (reader.get_ref().shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
