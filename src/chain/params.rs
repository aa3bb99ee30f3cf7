//! Networks: genesis, proof-of-work limits, retargeting rules, checkpoints.
