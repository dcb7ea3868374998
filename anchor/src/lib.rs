//! The notary and the ledger: anchors chain heads in a tile log.
