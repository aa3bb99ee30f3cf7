-- Whose database it is; one row.
CREATE TABLE identity (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    network     TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 4)
) STRICT;

-- LDK's keys: channel manager, monitors and their updates, sweeper, graph, scorer. The first `length` bytes of `value`
-- count, the rest is padding (kv.rs).
CREATE TABLE kv (
    seq          INTEGER PRIMARY KEY,
    primary_ns   TEXT NOT NULL,
    secondary_ns TEXT NOT NULL,
    key          TEXT NOT NULL,
    length       INTEGER NOT NULL,
    value        BLOB NOT NULL,
    UNIQUE (primary_ns, secondary_ns, key)
) STRICT;

-- Our best chain, without gaps.
CREATE TABLE header (
    height INTEGER PRIMARY KEY,
    header BLOB NOT NULL CHECK (length(header) = 80)
) STRICT;

-- What is known of each watched script, and the proofs of its confirmed transactions.
CREATE TABLE script (
    hash        BLOB PRIMARY KEY CHECK (length(hash) = 32),
    status      BLOB CHECK (status IS NULL OR length(status) = 32),
    unconfirmed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE proof (
    script BLOB NOT NULL REFERENCES script (hash) ON DELETE CASCADE,
    txid   BLOB NOT NULL CHECK (length(txid) = 32),
    height INTEGER NOT NULL,
    block  BLOB NOT NULL CHECK (length(block) = 32),
    pos    INTEGER NOT NULL,
    branch BLOB NOT NULL,
    tx     BLOB NOT NULL,
    PRIMARY KEY (script, txid)
) STRICT, WITHOUT ROWID;

-- Transactions to be broadcast until they are confirmed; a package is named by its last transaction.
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY,
    txid     BLOB NOT NULL UNIQUE CHECK (length(txid) = 32),
    package  BLOB NOT NULL,
    purpose  TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_at  INTEGER,
    accepted INTEGER,
    note     TEXT
) STRICT;

-- Small values of other rooms: cached fees and the like.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What servers have to show, by host:port: SHA-256 of a public key, or zeros for a certificate authority's word.
CREATE TABLE pin (
    server TEXT PRIMARY KEY,
    hash   BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;

-- Servers that lied.
CREATE TABLE ban (
    host   TEXT PRIMARY KEY,
    until  INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Lightning peers to stay connected with.
CREATE TABLE peer (
    node_id        BLOB PRIMARY KEY CHECK (length(node_id) = 33),
    address        TEXT NOT NULL,
    added_at       INTEGER NOT NULL,
    last_connected INTEGER
) STRICT, WITHOUT ROWID;

-- The book: every payment in and out. `record` is the JSON of ledger/record.rs; the other columns are for finding it.
-- `side` keeps a payment to somebody and one from somebody with the same hash apart.
CREATE TABLE payment (
    seq    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL,
    side   TEXT NOT NULL,
    open   INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (id, side)
) STRICT;
CREATE INDEX payment_open ON payment (seq) WHERE open = 1;

-- What forwarding earned.
CREATE TABLE forward (
    seq             INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL,
    incoming        TEXT NOT NULL,
    outgoing        TEXT NOT NULL,
    amount_out_msat INTEGER NOT NULL,
    fee_msat        INTEGER NOT NULL
) STRICT;

-- Channels that are no more, and why.
CREATE TABLE closed_channel (
    seq     INTEGER PRIMARY KEY,
    channel TEXT NOT NULL UNIQUE,
    record  TEXT NOT NULL
) STRICT;
