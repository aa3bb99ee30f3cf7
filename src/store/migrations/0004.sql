-- Updates of channel monitors (series.rs): one row for each monitor, and their values by `seq` of that row and number.
CREATE TABLE kv_series (
    seq          INTEGER PRIMARY KEY,
    primary_ns   TEXT NOT NULL,
    secondary_ns TEXT NOT NULL,
    UNIQUE (primary_ns, secondary_ns)
) STRICT;
CREATE TABLE kv_item (
    id    INTEGER PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
