//! Crash points: the names of all places at which a power cut is tested.
//!
//! Each stands before or after a write, or between a write and the act that follows it. In a build with the feature
//! `crash-points`, which only the tests have (the crate is its own dev-dependency, so that the binary of the tests is
//! built once, with it), the file named by `LIGHTNODE_CRASH` may hold `name:n`: the process is gone at the n-th passing
//! of that place since the file was written. A file of that name ending in `.passed`, if there is one, gets a line for
//! each place that is passed. In every other build a point is nothing.
//!
//! `tests/crash_points.rs` has a `match` over [`Point`]: a new point without a case does not compile there.

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place at which the process may end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// As `LIGHTNODE_CRASH` names it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// Nothing is there but the directory.
    SeedMissing = "seed.missing",
    /// The seed is written; there is no database.
    SeedMade = "seed.made",
    /// A form of the seed lies beside; the old one counts, or none.
    SeedWritten = "seed.written",
    /// It counts; the old one, with no name any more, is not overwritten.
    SeedReplaced = "seed.replaced",
    /// That is.
    SeedWiped = "seed.wiped",
    /// The database has its tables and nothing in them.
    DatabaseMade = "database.made",
    /// The wallet is there, LDK's first manager is not.
    WalletMade = "wallet.made",
    /// LDK's first manager is written.
    ManagerMade = "manager.made",
    /// A commit of any kind is about to be made durable.
    CommitBefore = "commit.before",
    /// It is durable, and nobody has heard of it.
    CommitAfter = "commit.after",
    /// Channel states are staged and not written.
    VaultStaged = "vault.staged",
    /// They are written, and LDK has not heard of it.
    VaultWritten = "vault.written",
    /// LDK has; transactions that waited for the write are not on their way.
    VaultCompleted = "vault.completed",
    /// Those are; messages to peers that waited are not.
    VaultOut = "vault.out",
    /// The wallet knows what Lightning broadcasts, no server does.
    BroadcastTold = "broadcast.told",
    /// A server has a transaction, and its verdict is not noted.
    OutboxSent = "outbox.sent",
    /// The verdict is noted.
    OutboxNoted = "outbox.noted",
    /// An invoice is booked and not shown.
    InvoiceBooked = "invoice.booked",
    /// A payment is booked, and LDK has not heard of it.
    PayBooked = "pay.booked",
    /// LDK has taken it, and nothing of that is written.
    PayHanded = "pay.handed",
    /// The book has its outcome, LDK still has the event.
    PaySettled = "pay.settled",
    /// LDK was told to claim a payment that came in.
    ClaimGiven = "claim.given",
    /// The book has it, LDK still has the event.
    ClaimBooked = "claim.booked",
    /// LDK reports an event, and nothing is done about it.
    EventCame = "event.came",
    /// It is dealt with, and LDK does not know that.
    EventDone = "event.done",
    /// A funding is signed and its coins locked; LDK has not seen it.
    FundingBuilt = "funding.built",
    /// LDK has it.
    FundingGiven = "funding.given",
    /// LDK was asked to close a channel; nothing of that is written.
    CloseAsked = "close.asked",
    /// The close is written and not answered.
    CloseWritten = "close.written",
    /// A withdrawal is booked and in the outbox; nobody has sent it.
    SendBooked = "send.booked",
    /// An address is revealed and not shown.
    AddressMade = "address.made",
    /// New headers are stored, of what the listeners were told not yet.
    HeadersStored = "headers.stored",
    /// Histories are stored; what they prove is delivered to nobody.
    HistoriesStored = "histories.stored",
    /// A listener has a plan; the next one has not.
    Delivered = "plan.delivered",
    /// All have it; that they do is not written.
    DeliveredAll = "plan.delivered-all",
    /// That is written.
    DeliveredTold = "plan.told",
    /// Outputs of a closed channel are written down for sweeping; LDK still has the event.
    SweepTracked = "sweep.tracked",
    /// Their sweep is signed.
    SweepMade = "sweep.made",
    /// A peer is remembered; the request goes on.
    PeerKept = "peer.kept",
    /// A file that is to be replaced whole lies beside the old one.
    FileWritten = "file.written",
    /// It is in its place.
    FileReplaced = "file.replaced",
    /// A backup is sealed, and lies nowhere.
    BackupSealed = "backup.sealed",
    /// The file has it, the command has not.
    BackupFiled = "backup.filed",
    /// The command has it; which channels it names is not noted.
    BackupFed = "backup.fed",
    /// That is.
    BackupNoted = "backup.noted",
    /// The database has a new epoch, the marks have the old one.
    MarkRaised = "mark.raised",
    /// One of the marks has it, too.
    MarkWritten = "mark.written",
    /// What is to be restored lies in the directory; there is no seed.
    RestoreLeft = "restore.left",
    /// The database knows of the recovery; what was to be restored still lies there.
    RestoreTaken = "restore.taken",
    /// That is gone.
    RestoreRemoved = "restore.removed",
    /// Channels are given up; nobody has asked their peers to close.
    GivenUp = "recovery.given-up",
    /// Peers of lost channels are remembered, and not dialled.
    RecoveryPeers = "recovery.peers",
    /// What a block has brought for a recovery is written.
    RecoveryFound = "recovery.found",
    /// The sweeper has an output of a close by a peer; the recovery does not know that.
    RecoveryHanded = "recovery.handed",
    /// It does.
    RecoveryKept = "recovery.kept",
    /// A recovery is over, in the database.
    RecoveryOver = "recovery.over",
}

/// The process ends here, if a test wants that. No destructor runs and nothing is flushed.
#[cfg(feature = "crash-points")]
pub fn passes(point: Point) {
    armed::passes(point);
}

/// Nothing: only tests have crash points.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn passes(_: Point) {}

#[cfg(feature = "crash-points")]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::Point;

    /// The file that gives the orders.
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("LIGHTNODE_CRASH").map(PathBuf::from));

    /// The order that was read last, and how often its point was passed since.
    static SEEN: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

    pub(super) fn passes(point: Point) {
        let Some(path) = &*FILE else { return };
        if let Ok(mut passed) = OpenOptions::new().append(true).open(path.with_extension("passed")) {
            // One write a line: others pass elsewhere at the same time. A line that is missing fails the test.
            let _ = passed.write_all(format!("{}\n", point.name()).as_bytes());
        }
        // No file: nothing is wanted now.
        let Ok(order) = std::fs::read_to_string(path) else { return };
        let Some((name, number)) = order.trim().split_once(':') else { return };
        if name != point.name() {
            return;
        }
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != order {
            *seen = (order.clone(), 0);
        }
        seen.1 += 1;
        if number.parse() == Ok(seen.1) {
            // Carried out once: the next start is to live. The new name tells the test that it was.
            let done = path.with_extension("done");
            if std::fs::rename(path, done).is_ok() {
                std::process::abort();
            }
        }
    }
}
