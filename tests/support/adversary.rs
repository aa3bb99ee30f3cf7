//! Servers that lie, and the one language in which a test says how.
//!
//! An [`Adversary`] is a proxy in front of the world's real server, or of one with a chain that the test makes up
//! ([`super::scripted`]), on a loopback address of its own, so that a node takes several of them for servers of different
//! operators. Which tests prove what is in `tests/threats.rs`. What it does wrong is a list of [`Clause`]s, each of which
//! says when (a method, its replies or notifications, whose script, which of them) and what then:
//!
//! ```ignore
//! liar.does([on("blockchain.scripthash.get_history").about(&script).since_nth(2).answers(json!([]))]);
//! ```
//!
//! The first clause that fits decides. Everything is counted in the order of lines, so that a run repeats itself.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use bitcoin::{ScriptBuf, Txid};
use serde_json::{Value, json};

use super::proxy::{Gate, Proxy, Rule, Verdict};
use super::transcript::{Entry, Kind};
use super::world::World;

/// A server that may lie.
pub(crate) struct Adversary {
    proxy: Proxy,
    host: String,
}

impl Adversary {
    /// Honest until it is told otherwise. `number` (1 to 250) is its place on the loopback network: each number looks
    /// like another operator.
    pub(crate) fn new(world: &World, number: u8) -> Self {
        Self::before(world.electrumx.tcp(), number)
    }

    /// The same in front of any server.
    pub(crate) fn before(server: SocketAddr, number: u8) -> Self {
        let host = format!("127.{number}.0.1");
        Self { proxy: Proxy::start_at(&host, server), host }
    }

    /// So many of them.
    pub(crate) fn several<const N: usize>(world: &World) -> [Self; N] {
        std::array::from_fn(|at| Self::new(world, u8::try_from(at + 1).expect("a few")))
    }

    /// Its name for `servers`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What it does from now on, instead of what it did.
    pub(crate) fn does(&self, clauses: impl IntoIterator<Item = Clause>) {
        self.proxy.set_rule(script(clauses));
    }

    /// It is honest from now on.
    pub(crate) fn repents(&self) {
        self.proxy.clear_rule();
    }

    /// It says nothing new of this script, and its history ends before `height`: what a thief's friend would do. It was
    /// asked about the script before.
    pub(crate) fn hides(&self, script: &ScriptBuf, height: u32) {
        let old = self.said("blockchain.scripthash.subscribe", script);
        let shorter = move |history: &mut Value| {
            let known = |item: &Value| item["height"].as_i64().is_some_and(|at| at > 0 && at < i64::from(height));
            history.as_array_mut().expect("a list").retain(known);
        };
        self.does([
            on("blockchain.scripthash.subscribe").about(script).answers(old),
            on("blockchain.scripthash.subscribe").notified().about(script).gets_lost(),
            on("blockchain.scripthash.get_history").about(script).tampers(shorter),
        ]);
    }

    /// The last result that the server behind gave to `method` for this script.
    pub(crate) fn said(&self, method: &str, script: &ScriptBuf) -> Value {
        let (lines, hash) = (self.transcript().0, json!(script_hash(script)));
        let fits = |line: &&Entry| line.kind == Kind::Reply && line.method == method && line.params[0] == hash;
        lines.iter().rev().find(fits).expect("it was asked").body["result"].clone()
    }

    /// It invents this answer, to a question that the server behind does not even understand.
    pub(crate) fn invents(method: &str, txid: Txid, answer: Value) -> [Clause; 2] {
        [on(method).asked().of(txid).becomes("server.ping", json!([])), on(method).of(txid).answers(answer)]
    }

    /// It goes on answering, and tells of no new block.
    pub(crate) fn freezes(&self) {
        self.does([on("blockchain.headers.subscribe").notified().gets_lost()]);
    }
}

impl Deref for Adversary {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

/// The rule that these clauses make, for any proxy.
pub(crate) fn script(clauses: impl IntoIterator<Item = Clause>) -> Script {
    Script { clauses: clauses.into_iter().collect() }
}

/// A clause about the replies to `method`.
pub(crate) fn on(method: &str) -> When {
    When { method: method.to_owned(), kind: Kind::Reply, subject: None, first: 1, last: usize::MAX }
}

/// When a clause fits.
#[derive(Clone, Debug)]
pub(crate) struct When {
    method: String,
    kind: Kind,
    /// What the line must name first: a script hash or a txid, as servers write it.
    subject: Option<String>,
    first: usize,
    last: usize,
}

impl When {
    /// Notifications instead of replies.
    pub(crate) fn notified(mut self) -> Self {
        self.kind = Kind::Notification;
        self
    }

    /// Requests instead of replies.
    pub(crate) fn asked(mut self) -> Self {
        self.kind = Kind::Request;
        self
    }

    /// Only those that concern this script.
    pub(crate) fn about(mut self, script: &ScriptBuf) -> Self {
        self.subject = Some(script_hash(script));
        self
    }

    /// Only those that concern this transaction.
    pub(crate) fn of(mut self, txid: Txid) -> Self {
        self.subject = Some(txid.to_string());
        self
    }

    /// Only the `nth` line that fits, counted from 1.
    pub(crate) fn nth(mut self, nth: usize) -> Self {
        (self.first, self.last) = (nth, nth);
        self
    }

    /// The `nth` that fits and all after it.
    pub(crate) fn since_nth(mut self, nth: usize) -> Self {
        self.first = nth;
        self
    }

    /// Its result is bent: of a reply the `result`, of a notification the `params`.
    pub(crate) fn tampers(self, bend: impl FnMut(&mut Value) + Send + 'static) -> Clause {
        self.then(Then::Tamper(Box::new(bend)))
    }

    /// It is answered with this result.
    pub(crate) fn answers(self, result: Value) -> Clause {
        self.tampers(move |there| *there = result.clone())
    }

    /// Of a request: the server behind is asked this instead, and its answer is taken for the answer.
    pub(crate) fn becomes(self, method: &str, params: Value) -> Clause {
        self.then(Then::Ask(method.to_owned(), params))
    }

    /// It is answered with an error of this text.
    pub(crate) fn fails(self, code: i64, text: &str) -> Clause {
        let error = json!({ "code": code, "message": text });
        self.then(Then::Error(error))
    }

    /// It never arrives.
    pub(crate) fn gets_lost(self) -> Clause {
        self.then(Then::Always(Verdict::Drop))
    }

    /// The connection ends instead.
    pub(crate) fn hangs_up(self) -> Clause {
        self.then(Then::Always(Verdict::Close))
    }

    /// The connection ends in the middle of the line.
    pub(crate) fn ends_mid_line(self) -> Clause {
        self.then(Then::Always(Verdict::CloseMidLine))
    }

    /// It comes when the gate opens.
    pub(crate) fn waits_for(self, gate: &Gate) -> Clause {
        self.then(Then::Always(Verdict::Later(gate.clone())))
    }

    /// It comes byte by byte, with this pause before each.
    pub(crate) fn drips(self, pause: Duration) -> Clause {
        self.then(Then::Always(Verdict::Drip(pause)))
    }

    /// These bytes come instead.
    pub(crate) fn turns_to(self, bytes: &[u8]) -> Clause {
        self.then(Then::Always(Verdict::Raw(bytes.to_vec())))
    }

    /// A line comes instead that does not end before so many bytes.
    pub(crate) fn never_ends(self, bytes: usize) -> Clause {
        self.then(Then::Always(Verdict::Endless(bytes)))
    }

    fn then(self, then: Then) -> Clause {
        Clause { when: self, then, seen: 0 }
    }

    fn fits(&self, line: &Entry) -> bool {
        let named = |subject: &String| line.params[0].as_str() == Some(subject);
        line.kind == self.kind && line.method == self.method && self.subject.as_ref().is_none_or(named)
    }
}

/// One sentence of the language.
pub(crate) struct Clause {
    when: When,
    then: Then,
    seen: usize,
}

enum Then {
    Always(Verdict),
    Tamper(Box<dyn FnMut(&mut Value) + Send>),
    Error(Value),
    Ask(String, Value),
}

/// Several of them: the first that fits decides.
pub(crate) struct Script {
    clauses: Vec<Clause>,
}

impl Rule for Script {
    fn on_line(&mut self, line: &Entry) -> Verdict {
        for Clause { when, then, seen } in &mut self.clauses {
            if !when.fits(line) {
                continue;
            }
            *seen += 1;
            if !(when.first..=when.last).contains(seen) {
                continue;
            }
            return match then {
                Then::Always(verdict) => verdict.clone(),
                Then::Tamper(bend) => {
                    let mut body = line.body.clone();
                    bend(if line.kind == Kind::Reply { &mut body["result"] } else { &mut body["params"] });
                    Verdict::Replace(body)
                }
                Then::Ask(method, params) => {
                    Verdict::Replace(json!({ "jsonrpc": "2.0", "id": line.id, "method": method, "params": params }))
                }
                Then::Error(error) => {
                    Verdict::Replace(json!({ "jsonrpc": "2.0", "id": line.id, "error": error.clone() }))
                }
            };
        }
        Verdict::Forward
    }
}

/// A script's name in the protocol: the SHA-256 of its bytes, reversed, in hex.
pub(crate) fn script_hash(script: &ScriptBuf) -> String {
    use bitcoin::hashes::{Hash, sha256};
    let mut hash = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    hash.reverse();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
