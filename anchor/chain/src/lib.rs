//! Links, page digests, events, checkpoints, proofs and their verification: all that an outsider needs. No I/O.
