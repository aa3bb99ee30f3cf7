//! Two whole nodes with their event handlers, on a chain of our own making: channels, payments, and what replays and
//! restarts do to them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, CompactTarget, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness,
};
use tokio::sync::mpsc;

use super::Ln;
use super::background;
use super::broadcast::Package;
use super::channels::{AcceptPolicy, Channels, CloseError, Open, OpenError, Opened, Standing};
use super::events::{Claims, Context, Desk, Dial, Doors, Events, release_orphans};
use super::peers::{Listening, Peers};
use super::receive::{Purpose, Receiver};
use super::restore::{Ground, Restored};
use super::send::{Order, Paid, PayError, Payer, PayerParts};
use crate::chain::io::{Owners, Plan, PlanBlock, PlanTx, Watch};
use crate::chain::merkle;
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::config::{Config, HostPort};
use crate::engine::{FeeBook, Listener, WatchInbox};
use crate::keys::Seed;
use crate::ledger::{Ledger, State};
use crate::store::Store;
use crate::task::{Shutdown, StopReason, Tasks};
use crate::wallet::Wallet;

const NETWORK: Network = Network::Regtest;

/// A chain whose blocks hold one transaction of interest, or none.
struct Chain {
    tree: HeaderTree,
    blocks: Vec<(Header, Option<Arc<Transaction>>)>,
    salt: u32,
}

impl Chain {
    fn new() -> Self {
        Self { tree: HeaderTree::new(Params::new(NETWORK)), blocks: Vec::new(), salt: 0 }
    }

    fn mine(&mut self, tx: Option<Transaction>, nodes: &[&Node]) {
        self.salt += 1;
        let height = self.tree.height();
        let parent = self.tree.header_at(height).unwrap();
        let mut salted = [0x5a; 32];
        salted[..4].copy_from_slice(&self.salt.to_le_bytes());
        let root = tx.as_ref().map_or(TxMerkleNode::from_byte_array(salted), |tx| tx.compute_txid().into());
        let mut header = Header {
            version: Version::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: parent.block_hash(),
            merkle_root: root,
            time: parent.time + 600,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        self.tree.accept(header, height + 1, u64::from(header.time)).unwrap();
        self.blocks.push((header, tx.map(Arc::new)));
        for node in nodes {
            self.tell(node, self.blocks.len() - 1);
        }
    }

    fn mine_empty(&mut self, count: u32, nodes: &[&Node]) {
        for _ in 0..count {
            self.mine(None, nodes);
        }
    }

    fn tell(&self, node: &Node, at: usize) {
        self.tell_block(node, at);
        self.tell_tip(node);
    }

    fn tell_block(&self, node: &Node, at: usize) {
        let (header, tx) = &self.blocks[at];
        let Some(tx) = tx else { return };
        let height = u32::try_from(at).unwrap() + 1;
        let proven = merkle::prove(Arc::clone(tx), Vec::new(), 0, *header, height).unwrap();
        let owners = Owners { wallet: true, lightning: true };
        let txs = vec![PlanTx { proven: Arc::new(proven), owners }];
        self.deliver(
            node,
            &Plan { block: Some(PlanBlock { header: *header, height, txs }), ..Plan::default() },
        );
    }

    fn tell_tip(&self, node: &Node) {
        let height = self.tree.height();
        let header = self.tree.header_at(height).unwrap();
        self.deliver(node, &Plan { tip: Some((header, height)), ..Plan::default() });
    }

    fn deliver(&self, node: &Node, plan: &Plan) {
        node.wallet.deliver(plan, &self.tree).unwrap();
        node.listener.deliver(plan, &self.tree).unwrap();
    }

    /// Everything again, as after a restart: never a lower tip than before.
    fn tell_all(&self, node: &Node) {
        (0..self.blocks.len()).for_each(|at| self.tell_block(node, at));
        self.tell_tip(node);
    }
}

/// A node at work.
struct Node {
    ln: Ln,
    peers: Peers,
    address: HostPort,
    wallet: Wallet,
    ledger: Ledger,
    listener: Arc<dyn Listener>,
    channels: Channels,
    payer: Payer,
    receiver: Receiver,
    sent: Arc<Mutex<Vec<Package>>>,
    store: Store,
    shutdown: Shutdown,
    tasks: Tasks,
    _watches: mpsc::UnboundedReceiver<Watch>,
    _dials: mpsc::Receiver<Dial>,
}

impl Node {
    async fn start(dir: PathBuf, chain: &Chain) -> Self {
        let config = Config::from_text(&dir.join("lightnode.toml"), "network = \"regtest\"\n", &dir).unwrap();
        let seed = if Seed::exists(&dir).unwrap() { Seed::load(&dir) } else { Seed::create(&dir) }.unwrap();
        let store = Store::open(&dir, NETWORK, seed.fingerprint()).unwrap();
        let ledger = Ledger::open(store.clone());
        let (inbox, _watches) = WatchInbox::new();
        let wallet =
            Wallet::open(store.clone(), ledger.clone(), &seed.wallet_xprv(NETWORK), NETWORK, inbox.clone())
                .unwrap();
        let ground = Ground {
            config: &config,
            seed: &seed,
            store: store.clone(),
            wallet: wallet.clone(),
            inbox,
            fees: FeeBook::new(&config.fees, None),
            tip: HeaderTree::new(Params::new(NETWORK)).tip(),
            halt: super::persist::halt,
        };
        let (restored, mut packages) = Restored::restore(ground).unwrap();
        let Restored { ln, feeder, gossip, .. } = restored;
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let accept =
            AcceptPolicy { inbound: true, min_sat: 20_000, max_sat: 16_000_000, reserve_sat: 25_000 };
        let (desk, (dial, _dials)) = (Desk::default(), mpsc::channel(1));
        let (manager, monitors) = (|| Arc::clone(&ln.channels), || Arc::clone(&ln.chain_monitor));
        let payer = Payer::new(PayerParts {
            manager: manager(),
            monitors: monitors(),
            ledger: ledger.clone(),
            hand_over: desk.hand_over.clone(),
            settings: config.payments.clone(),
            network: NETWORK,
            tasks: tasks.clone(),
        });
        let channels = Channels::new(manager(), monitors(), wallet.clone(), desk.openings.clone(), accept);
        let receiver = Receiver::new(manager(), Arc::clone(&ln.keys), ledger.clone(), NETWORK);
        let context = Context {
            manager: manager(),
            ledger: ledger.clone(),
            wallet: wallet.clone(),
            claims: Claims {
                monitors: monitors(),
                sweeper: Arc::clone(&ln.sweeper),
                bumper: Arc::clone(&ln.bumper),
            },
            desk,
            doors: Doors { accept, dial },
        };
        let events = Arc::new(Events::new(context, shutdown.clone()));
        let handle = move |event| {
            let events = Arc::clone(&events);
            async move { events.handle(event).await }
        };

        let sent = Arc::new(Mutex::new(Vec::new()));
        let (list, teller, until) = (Arc::clone(&sent), wallet.clone(), shutdown.clone());
        tasks.spawn("packages", async move {
            loop {
                tokio::select! {
                    _ = until.wait() => return Ok::<_, std::convert::Infallible>(()),
                    Some(package) = packages.recv() => {
                        teller.broadcasting(&package).unwrap();
                        list.lock().unwrap().push(package);
                    }
                }
            }
        });

        let local = HostPort { host: "127.0.0.1".into(), port: 0 };
        let listening = Listening::bind(&[local]).await.unwrap();
        let address = listening.addresses()[0].to_string().parse().unwrap();
        let peers = Peers::new(&ln);
        let node = Self {
            ln,
            peers,
            address,
            wallet,
            ledger,
            listener: feeder,
            channels,
            payer,
            receiver,
            sent,
            store,
            shutdown,
            tasks,
            _watches,
            _dials,
        };
        node.payer.reconcile().unwrap();
        release_orphans(&node.wallet, &node.ln.channels, &node.ln.chain_monitor).unwrap();
        chain.tell_all(&node);
        let Node { ln, peers, tasks, shutdown, .. } = &node;
        tasks.spawn("ln", background::run(ln.clone(), gossip, peers.clone(), handle, shutdown.clone()));
        tasks.spawn("listen", peers.clone().serve(listening, shutdown.clone()));
        node
    }

    /// Ends everything in order, and gives the directory to start again from.
    async fn stop(self) {
        self.shutdown.trigger(StopReason::Asked("test".into()));
        self.tasks.join(Duration::from_secs(5)).await.unwrap();
        self.store.close().unwrap();
    }

    async fn connect(&self, other: &Node) {
        self.peers.connect(other.ln.node_id(), &other.address).await.unwrap();
        until("the other side sees the connection", || other.peers.is_connected(&self.ln.node_id())).await;
    }

    fn deposit(&self, sat: u64, salt: u8) -> Transaction {
        let script_pubkey = self.wallet.new_address().unwrap().address.script_pubkey();
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: Txid::from_byte_array([salt; 32]), vout: 0 },
                script_sig: ScriptBuf::new(),
                sequence: bitcoin::Sequence::MAX,
                witness: Witness::from_slice(&[vec![salt; 70]]),
            }],
            output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey }],
        }
    }

    async fn open(&self, peer: &Node, amount_sat: Option<u64>) -> Result<Opened, OpenError> {
        let feerate = FeeRate::from_sat_per_vb_u32(2);
        let open = Open { peer: peer.ln.node_id(), amount_sat, push_msat: 0, public: false, feerate };
        self.channels.open(open).await
    }

    fn invoice(&self, amount_msat: Option<u64>) -> String {
        let hour = Duration::from_secs(3600);
        self.receiver.receive(amount_msat, Purpose::Text("test".into()), hour).unwrap().invoice.to_string()
    }

    async fn pay(&self, invoice: &str, amount_msat: Option<u64>) -> Result<Paid, PayError> {
        let timeout = Some(Duration::from_secs(20));
        self.payer.pay(Order { invoice: invoice.into(), amount_msat, max_fee_msat: None, timeout }).await
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Package>> {
        self.sent.lock().unwrap()
    }

    fn standing(&self) -> Option<Standing> {
        self.channels.list(&BTreeSet::new()).first().map(|channel| channel.standing)
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// The next transaction that spends `outpoint`, once the node sends it.
async fn spend_of(node: &Node, outpoint: OutPoint) -> Transaction {
    let find = || {
        let sent = node.sent();
        let spends = |tx: &&Transaction| tx.input.iter().any(|input| input.previous_output == outpoint);
        sent.iter().flatten().find(spends).cloned()
    };
    until("a transaction that spends it", || find().is_some()).await;
    find().unwrap()
}

struct Story {
    chain: Chain,
    a: Node,
    b: Node,
    dirs: [tempfile::TempDir; 2],
}

impl Story {
    /// Two nodes with coins, connected.
    async fn begin() -> Self {
        let mut chain = Chain::new();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let a = Node::start(dirs[0].path().into(), &chain).await;
        let b = Node::start(dirs[1].path().into(), &chain).await;
        chain.mine(Some(a.deposit(1_000_000, 1)), &[&a, &b]);
        chain.mine(Some(b.deposit(100_000, 2)), &[&a, &b]);
        chain.mine_empty(3, &[&a, &b]);
        a.connect(&b).await;
        Self { chain, a, b, dirs }
    }

    /// And a channel from the first to the second.
    async fn with_channel(amount_sat: u64) -> (Self, Opened) {
        let mut story = Self::begin().await;
        let opened = story.a.open(&story.b, Some(amount_sat)).await.unwrap();
        let funding = story.a.wallet.fundings();
        assert_eq!(funding.len(), 1, "its coins are locked");
        let coin = funding[0].inputs[0];
        let tx = spend_of(&story.a, coin).await;
        assert_eq!(tx.compute_txid(), opened.funding.txid);
        story.mine(Some(tx));
        story.mine_empty(5);
        story.usable().await;
        assert!(story.a.wallet.fundings().is_empty(), "its coins are spent");
        (story, opened)
    }

    fn mine(&mut self, tx: Option<Transaction>) {
        let Self { chain, a, b, .. } = self;
        chain.mine(tx, &[a, b]);
    }

    fn mine_empty(&mut self, count: u32) {
        let Self { chain, a, b, .. } = self;
        chain.mine_empty(count, &[a, b]);
    }

    async fn usable(&self) {
        let usable = |node: &Node| node.standing() == Some(Standing::Usable);
        until("the channel is usable", || usable(&self.a) && usable(&self.b)).await;
    }

    async fn end(self) {
        self.a.stop().await;
        self.b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_pays_both_ways_and_closes() {
    let (mut story, opened) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    assert_eq!(opened.amount_sat, 300_000);

    // There.
    let invoice = b.invoice(Some(50_000_000));
    let paid = a.pay(&invoice, None).await.unwrap();
    assert_eq!((paid.record.state, paid.already), (State::Succeeded, false), "{paid:?}");
    assert_eq!((paid.record.fee_msat, paid.record.attempts), (Some(0), 1), "{paid:?}");
    let preimage = paid.record.preimage.clone().unwrap();
    let received = || b.ledger.line(&paid.record.id, crate::ledger::Side::Receive).unwrap().unwrap();
    until("the payee has it in the book", || received().state == State::Succeeded).await;
    assert_eq!((received().preimage, received().amount_msat), (Some(preimage), Some(50_000_000)));

    // Again: told, not paid.
    let again = a.pay(&invoice, None).await.unwrap();
    assert!(again.already);
    assert_eq!(again.record.preimage, paid.record.preimage);

    // Back, for an invoice that leaves the amount to the payer.
    let invoice = a.invoice(None);
    assert!(matches!(b.pay(&invoice, None).await, Err(PayError::Amount(_))));
    assert_eq!(b.pay(&invoice, Some(20_000_000)).await.unwrap().record.state, State::Succeeded);

    // What cannot be.
    assert!(matches!(a.pay(&a.invoice(Some(1_000)), None).await, Err(PayError::Own)));
    let too_much = a.pay(&b.invoice(Some(299_000_000)), None).await.unwrap_err();
    assert!(too_much.to_string().contains("299000 sat cannot be sent: at most"), "{too_much}");

    // Closed by agreement, and the money swept home.
    let id = opened.channel_id.to_string();
    assert!(matches!(a.channels.close("ffffffffff"), Err(CloseError::NotFound(_))));
    a.channels.close(&id[..10]).unwrap();
    let closing = spend_of(a, opened.funding).await;
    until("both have it in the book", || {
        [a, b].iter().all(|node| node.ledger.closed_channels(9).unwrap().len() == 1)
    })
    .await;
    let reason = a.ledger.closed_channels(9).unwrap().remove(0).reason;
    assert_eq!(reason, "both sides agreed to close it; we asked for it");
    let txid = closing.compute_txid();
    story.mine(Some(closing));
    story.mine_empty(6);
    until("its outputs are to be swept", || !story.a.ln.sweeper.tracked_spendable_outputs().is_empty()).await;
    let ours = story.a.ln.sweeper.tracked_spendable_outputs()[0].descriptor.spendable_outpoint();
    assert_eq!(ours.txid, txid);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_can_be_spent_goes_into_a_channel_but_the_reserve() {
    let story = Story::begin().await;
    let opened = story.a.open(&story.b, None).await.unwrap();
    assert_eq!(story.a.channels.reserve_sat(), 25_000);
    let left = 1_000_000 - opened.amount_sat;
    assert!((25_000..26_000).contains(&left), "{left} sat left for reserve and fee");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused_and_locks_no_coins() {
    let story = Story::begin().await;
    let Story { a, b, .. } = &story;
    let why = |error: OpenError| error.to_string();
    assert!(why(a.open(b, Some(9_999)).await.unwrap_err()).contains("at least 10000 sat"));
    assert!(why(a.open(b, Some(16_000_001)).await.unwrap_err()).contains("at most 16000000 sat"));
    let error = a.open(b, Some(990_000)).await.unwrap_err();
    assert!(matches!(error, OpenError::NotEnough(_)), "{error}");
    assert!(why(error).contains("25000"), "the reserve is named");
    let refused = a.open(b, Some(15_000)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Refused(_)), "{refused}");
    assert!(why(refused).contains("saying \"the channel is too small: at least 20000 sat\""));
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || !a.peers.is_connected(&b.ln.node_id())).await;
    assert!(matches!(a.open(b, Some(100_000)).await, Err(OpenError::PeerAway)));
    assert!(a.wallet.fundings().is_empty());
    assert!(a.ledger.closed_channels(9).unwrap().is_empty(), "what never was is no history");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_never_reached_ldk_has_failed_after_a_restart_and_a_channel_comes_back() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { chain, a, b, dirs } = story;
    let invoice = b.invoice(Some(10_000_000));
    let hash = super::decode::parse(&invoice, NETWORK).unwrap().payment_hash().to_byte_array();
    // The process ends between the book and LDK.
    let new = crate::ledger::NewSend {
        payment_hash: hash,
        amount_msat: 10_000_000,
        max_fee_msat: None,
        invoice: Some(invoice.clone()),
        payee: None,
        description: None,
    };
    let _token = a.ledger.begin_send(new).unwrap();
    a.stop().await;
    let a = Node::start(dirs[0].path().into(), &chain).await;
    let line = a.ledger.send_of(hash).unwrap().unwrap();
    assert_eq!(line.state, State::Failed);
    assert!(line.reason.unwrap().contains("no money has moved"));

    a.connect(&b).await;
    let story = Story { chain, a, b, dirs };
    story.usable().await;
    // It failed for certain: it may be paid now.
    assert_eq!(story.a.pay(&invoice, None).await.unwrap().record.state, State::Succeeded);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_to_a_peer_that_is_away_is_not_begun() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    let invoice = b.invoice(Some(1_000_000));
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || a.standing() == Some(Standing::Inactive)).await;
    let error = a.pay(&invoice, None).await.unwrap_err();
    assert!(matches!(error, PayError::NoChannelUp(_)), "{error}");
    let id = super::decode::parse(&invoice, NETWORK).unwrap().payment_hash().to_byte_array();
    assert_eq!(a.ledger.send_of(id).unwrap(), None, "no line is spent on it");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_closed_by_force_and_both_books_say_so() {
    let (mut story, opened) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || a.standing() == Some(Standing::Inactive)).await;
    let id = opened.channel_id.to_string();
    let away = a.channels.close(&id).unwrap_err();
    assert!(matches!(away, CloseError::PeerAway(_)), "{away}");
    let closing = a.channels.force_close(&id).unwrap();
    assert!(closing.next.contains("locked for 144 blocks"), "{}", closing.next);
    // LDK leaves the commitment of an anchor channel to the handler of `BumpTransaction`.
    let commitment = spend_of(a, opened.funding).await;
    story.mine(Some(commitment));
    until("both have it in the book", || {
        [&story.a, &story.b].iter().all(|node| node.ledger.closed_channels(9).unwrap().len() == 1)
    })
    .await;
    let reason = |node: &Node| node.ledger.closed_channels(9).unwrap().remove(0).reason;
    assert_eq!(reason(&story.a), "closed by force: closed by its owner");
    assert!(reason(&story.b).contains("commitment transaction is confirmed"), "{}", reason(&story.b));
    story.end().await;
}
