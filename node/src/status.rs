//! What `chordae status` shows.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use chordae_anchor::{Ledger, Notary};
use chordae_base::time;
use serde_json::{Value, json};

use crate::{control::Control, observe::Readiness};

/// Where the status comes from, beside the control's own parts.
pub struct StatusSource {
    ledger: Ledger,
    notary: Arc<Notary>,
    ready: Readiness,
    listening: OnceLock<Vec<String>>,
}

impl StatusSource {
    /// Of one server.
    pub fn new(ledger: Ledger, notary: Arc<Notary>, ready: Readiness) -> Self {
        Self {
            ledger,
            notary,
            ready,
            listening: OnceLock::new(),
        }
    }

    /// What listens where, once all of it does; the first word stays.
    pub fn listens(&self, listening: &[(&'static str, SocketAddr)]) {
        let lines = listening
            .iter()
            .map(|(what, addr)| format!("{what} {addr}"));
        self.listening.get_or_init(|| lines.collect());
    }

    /// The status now.
    pub fn show(&self, control: &Control, chunker: &chordae_chunker::Status) -> Value {
        let anchors = self.notary.status();
        let damaged: Vec<String> = control
            .catalogue
            .damaged()
            .iter()
            .map(|(did, index, why)| format!("{did} {index}: {why}"))
            .collect();
        json!({
            "ready": self.ready.reasons().is_empty(),
            "reasons": self.ready.reasons(),
            "listening": self.listening.get(),
            "doors_open": *control.ingest.doors_open().borrow(),
            "streams": control.registry.streams().len(),
            "sessions": control.directory.len(),
            "chunks": control.catalogue.chunks(),
            "damaged_chunks": damaged,
            "open_buckets": chunker.open_buckets,
            "oldest_open": chunker.oldest_open_ns.map(time::show),
            "sealing": chunker.sealing,
            "gaps": chunker.gaps,
            "parked_frames": chunker.parked,
            "ledger_entries": self.ledger.size(),
            "anchor_pending_heads": anchors.pending_heads,
            "anchor_lag_seconds": anchors.lag_ns / 1_000_000_000,
            "anchor_trouble": anchors.trouble,
        })
    }
}
