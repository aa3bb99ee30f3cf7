//! Two whole nodes with their event handlers, and a chain of our own making.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, CompactTarget, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use lightning::events::Event;
use tokio::sync::mpsc;

use crate::chain::io::{Owners, Plan, PlanBlock, PlanTx, Watch};
use crate::chain::merkle;
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::config::{Alarms, Config, HostPort};
use crate::engine::{Caution, FeeBook, Listener, WatchInbox};
use crate::keys::{Kept, Seed};
use crate::ledger::Ledger;
use crate::ln::Ln;
use crate::ln::background;
use crate::ln::channels::{AcceptPolicy, Channels, Open, OpenError, Opened, Standing};
use crate::ln::events::{Claims, Context, Desk, Dial, Doors, Events, release_orphans};
use crate::ln::gate::Gate;
use crate::ln::peers::{Listening, Peers};
use crate::ln::purposes::Purposes;
use crate::ln::receive::{Purpose, Receiver};
use crate::ln::restore::{Ground, Restored};
use crate::ln::send::{Order, Paid, PayError, Payer, PayerParts};
use crate::ln::settings::user_config;
use crate::ln::vault::Package;
use crate::store::Store;
use crate::task::{Shutdown, StopReason, Tasks};
use crate::wallet::Wallet;

pub(super) const NETWORK: Network = Network::Regtest;

/// A chain whose blocks hold one transaction of interest, or none.
pub(super) struct Chain {
    pub(super) tree: HeaderTree,
    pub(super) blocks: Vec<(Header, Option<Arc<Transaction>>)>,
    pub(super) salt: u32,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { tree: HeaderTree::new(Params::new(NETWORK)), blocks: Vec::new(), salt: 0 }
    }

    pub(super) fn mine(&mut self, tx: Option<Transaction>, nodes: &[&Node]) {
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

    pub(super) fn mine_empty(&mut self, count: u32, nodes: &[&Node]) {
        for _ in 0..count {
            self.mine(None, nodes);
        }
    }

    pub(super) fn tell(&self, node: &Node, at: usize) {
        self.tell_block(node, at);
        self.tell_tip(node);
    }

    pub(super) fn tell_block(&self, node: &Node, at: usize) {
        let (header, tx) = &self.blocks[at];
        let Some(tx) = tx else { return };
        let height = u32::try_from(at).unwrap() + 1;
        let proven = merkle::prove(Arc::clone(tx), Vec::new(), 0, *header, height).unwrap();
        let owners = Owners { wallet: true, lightning: true };
        let txs = vec![PlanTx { proven: Arc::new(proven), owners }];
        self.deliver(node, &Plan { block: Some(PlanBlock { header: *header, height, txs }), ..Plan::default() });
    }

    pub(super) fn tell_tip(&self, node: &Node) {
        let height = self.tree.height();
        let header = self.tree.header_at(height).unwrap();
        self.deliver(node, &Plan { tip: Some((header, height)), ..Plan::default() });
    }

    pub(super) fn deliver(&self, node: &Node, plan: &Plan) {
        node.wallet.deliver(plan, &self.tree).unwrap();
        node.listener.deliver(plan, &self.tree).unwrap();
    }

    /// Everything again, as after a restart: never a lower tip than before.
    pub(super) fn tell_all(&self, node: &Node) {
        (0..self.blocks.len()).for_each(|at| self.tell_block(node, at));
        self.tell_tip(node);
    }
}

/// A node at work.
pub(super) struct Node {
    pub(super) ln: Ln,
    pub(super) peers: Peers,
    pub(super) address: HostPort,
    pub(super) wallet: Wallet,
    pub(super) ledger: Ledger,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) channels: Channels,
    pub(super) payer: Payer,
    pub(super) receiver: Receiver,
    pub(super) caution: Caution,
    pub(super) sent: Arc<Mutex<Vec<Package>>>,
    pub(super) store: Store,
    pub(super) shutdown: Shutdown,
    pub(super) tasks: Tasks,
    /// Payments that could be claimed are ignored.
    pub(super) deaf: Arc<AtomicBool>,
    _watches: mpsc::UnboundedReceiver<Watch>,
    _dials: mpsc::Receiver<Dial>,
}

impl Node {
    pub(super) async fn start(dir: PathBuf, chain: &Chain) -> Self {
        let config = Config::from_text(&dir.join("lightnode.toml"), "network = \"regtest\"\n", &dir).unwrap();
        let seed = match Seed::exists(&dir).unwrap() {
            true => Kept::read(&dir).unwrap().open(None),
            false => Seed::create(&dir, None),
        };
        let seed = seed.unwrap();
        let store = Store::open(&dir, NETWORK, seed.fingerprint()).unwrap();
        let ledger = Ledger::open(store.clone());
        let (inbox, _watches) = WatchInbox::new();
        let wallet =
            Wallet::open(store.clone(), ledger.clone(), &seed.wallet_xprv(NETWORK), NETWORK, inbox.clone()).unwrap();
        let ground = Ground {
            config: &config,
            seed: &seed,
            store: store.clone(),
            wallet: wallet.clone(),
            inbox,
            fees: FeeBook::new(&config.fees, None),
            tip: HeaderTree::new(Params::new(NETWORK)).tip(),
            mark: Some(Arc::new(store.begin_mark(None).unwrap())),
            behind: Box::new(|peer, channel| panic!("{peer} is ahead of us on {channel}")),
            halt: crate::ln::vault::halt,
        };
        let (restored, mut packages) = Restored::restore(ground).unwrap();
        let Restored { ln, feeder, gossip, vault, .. } = restored;
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        tasks.spawn("vault", crate::ln::vault::keep(vault, shutdown.clone()));
        let accept = AcceptPolicy { inbound: true, min_sat: 20_000, max_sat: 16_000_000, reserve_sat: 25_000 };
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        let alarms = Alarms { rotate_after: hours(1), degraded_after: hours(2), refuse_after: hours(3) };
        let caution = Caution::new(&alarms, Some(unix_now()));
        let (desk, (dial, _dials)) = (Desk::default(), mpsc::channel(1));
        let (manager, monitors) = (|| Arc::clone(&ln.channels), || Arc::clone(&ln.chain_monitor));
        let payer = Payer::new(PayerParts {
            manager: manager(),
            monitors: monitors(),
            ledger: ledger.clone(),
            store: store.clone(),
            hand_over: desk.hand_over.clone(),
            settings: config.payments.clone(),
            caution: caution.clone(),
            network: NETWORK,
            tasks: tasks.clone(),
        });
        let channels = Channels::new(manager(), monitors(), wallet.clone(), desk.openings.clone(), accept);
        let receiver = Receiver::new(manager(), Arc::clone(&ln.keys), ledger.clone(), NETWORK);
        let context = Context {
            manager: manager(),
            ledger: ledger.clone(),
            wallet: wallet.clone(),
            claims: Claims { monitors: monitors(), sweeps: Arc::clone(&ln.sweeps), bumper: Arc::clone(&ln.bumper) },
            desk,
            doors: Doors { accept, dial, caution: caution.clone(), disk: store.clone() },
        };
        let events = Arc::new(Events::new(context, shutdown.clone()));
        let deaf = Arc::new(AtomicBool::new(false));
        let ears = Arc::clone(&deaf);
        let handle = move |event| {
            let (events, deaf) = (Arc::clone(&events), ears.load(Ordering::Relaxed));
            async move {
                match event {
                    Event::PaymentClaimable { .. } if deaf => Ok(()),
                    event => events.handle(event).await,
                }
            }
        };

        let sent = Arc::new(Mutex::new(Vec::new()));
        let teller = Purposes::new(wallet.clone(), monitors());
        let (list, until) = (Arc::clone(&sent), shutdown.clone());
        tasks.spawn("packages", async move {
            loop {
                tokio::select! {
                    _ = until.wait() => return Ok::<_, std::convert::Infallible>(()),
                    Some(package) = packages.recv() => {
                        teller.tell(&package).unwrap();
                        list.lock().unwrap().push(package);
                    }
                }
            }
        });

        let local = HostPort { host: "127.0.0.1".into(), port: 0 };
        let listening = Listening::bind(&[local]).await.unwrap();
        let address = listening.addresses()[0].to_string().parse().unwrap();
        let peers = Peers::new(&ln, crate::dial::Dialer::new(None));
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
            caution,
            sent,
            store,
            shutdown,
            tasks,
            deaf,
            _watches,
            _dials,
        };
        let forwarding = user_config(&config.channels).channel_config;
        let gate = Gate::new(Arc::clone(&node.ln.channels), node.caution.clone(), forwarding);
        node.tasks.spawn("gate", gate.run(node.shutdown.clone()));
        node.payer.reconcile(&BTreeSet::new()).unwrap();
        release_orphans(&node.wallet, &node.ln.channels, &node.ln.chain_monitor).unwrap();
        chain.tell_all(&node);
        let Node { ln, peers, tasks, shutdown, .. } = &node;
        tasks.spawn("ln", background::run(ln.clone(), gossip, peers.clone(), handle, shutdown.clone()));
        tasks.spawn("listen", peers.clone().serve(listening, shutdown.clone()));
        node
    }

    /// Ends everything in order, and gives the directory to start again from.
    pub(super) async fn stop(self) {
        self.shutdown.trigger(StopReason::Asked("test".into()));
        self.tasks.join(Duration::from_secs(5)).await.unwrap();
        self.store.close().unwrap();
    }

    pub(super) async fn connect(&self, other: &Node) {
        self.peers.connect(other.ln.node_id(), &other.address).await.unwrap();
        until("the other side sees the connection", || other.peers.is_connected(&self.ln.node_id())).await;
    }

    pub(super) fn deposit(&self, sat: u64, salt: u8) -> Transaction {
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

    pub(super) async fn open(&self, peer: &Node, amount_sat: Option<u64>) -> Result<Opened, OpenError> {
        let feerate = FeeRate::from_sat_per_vb_u32(2);
        let open = Open { peer: peer.ln.node_id(), amount_sat, push_msat: 0, public: false, feerate };
        self.channels.open(open).await
    }

    pub(super) fn invoice(&self, amount_msat: Option<u64>) -> String {
        let hour = Duration::from_secs(3600);
        self.receiver.receive(amount_msat, Purpose::Text("test".into()), hour).unwrap().invoice.to_string()
    }

    pub(super) async fn pay(&self, invoice: &str, amount_msat: Option<u64>) -> Result<Paid, PayError> {
        self.pay_within(20, invoice, amount_msat).await
    }

    pub(super) async fn pay_within(
        &self,
        secs: u64,
        invoice: &str,
        amount_msat: Option<u64>,
    ) -> Result<Paid, PayError> {
        let timeout = Some(Duration::from_secs(secs));
        self.payer.pay(Order { invoice: invoice.into(), amount_msat, max_fee_msat: None, timeout }).await
    }

    pub(super) fn sent(&self) -> MutexGuard<'_, Vec<Package>> {
        self.sent.lock().unwrap()
    }

    pub(super) fn standing(&self) -> Option<Standing> {
        self.channels.list(&BTreeSet::new()).first().map(|channel| channel.standing)
    }
}

pub(super) fn unix_now() -> u32 {
    u32::try_from(crate::ln::now().as_secs()).unwrap()
}

pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// The next transaction that spends `outpoint`, once the node sends it.
pub(super) async fn spend_of(node: &Node, outpoint: OutPoint) -> Transaction {
    let find = || {
        let sent = node.sent();
        let spends = |tx: &&Transaction| tx.input.iter().any(|input| input.previous_output == outpoint);
        sent.iter().flatten().find(spends).cloned()
    };
    until("a transaction that spends it", || find().is_some()).await;
    find().unwrap()
}

pub(super) struct Story {
    pub(super) chain: Chain,
    pub(super) a: Node,
    pub(super) b: Node,
    pub(super) dirs: [tempfile::TempDir; 2],
}

impl Story {
    /// Two nodes with coins, connected.
    pub(super) async fn begin() -> Self {
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
    pub(super) async fn with_channel(amount_sat: u64) -> (Self, Opened) {
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

    pub(super) fn mine(&mut self, tx: Option<Transaction>) {
        let Self { chain, a, b, .. } = self;
        chain.mine(tx, &[a, b]);
    }

    pub(super) fn mine_empty(&mut self, count: u32) {
        let Self { chain, a, b, .. } = self;
        chain.mine_empty(count, &[a, b]);
    }

    pub(super) async fn usable(&self) {
        let usable = |node: &Node| node.standing() == Some(Standing::Usable);
        until("the channel is usable", || usable(&self.a) && usable(&self.b)).await;
    }

    pub(super) async fn end(self) {
        self.a.stop().await;
        self.b.stop().await;
    }
}
