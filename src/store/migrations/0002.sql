-- Which versions of lightnode have opened the database, the last one last. Read by older ones, too: never changed.
CREATE TABLE program (
    seq     INTEGER PRIMARY KEY,
    version TEXT NOT NULL,
    schema  INTEGER NOT NULL
) STRICT;
