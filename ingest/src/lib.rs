//! Doors, decoding, identity, dedupe, admission and the write-ahead log.
