-- What shows how deep a block's merkle tree is, for the few proofs that need it: the coinbase (without its witness) and its
-- branch.
ALTER TABLE proof ADD COLUMN coinbase BLOB;
ALTER TABLE proof ADD COLUMN coinbase_branch BLOB CHECK ((coinbase IS NULL) = (coinbase_branch IS NULL));
