-- What has changed of a value of `kv` since it was written whole (values.rs, patch.rs).
CREATE TABLE kv_patch (
    seq     INTEGER PRIMARY KEY REFERENCES kv (seq) ON DELETE CASCADE,
    patches BLOB NOT NULL
) STRICT;
