//! All that is kept, as records: what a segment of the journal begins with.
//!
//! Folding a snapshot gives the board it was taken from, whether it is folded over nothing or over that
//! board: after a roll that was torn the segments before it are still there, and are folded first.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    board::Board,
    record::{Queued, Record, Stored},
    session::Session,
    trie::Key,
};

/// Bytes of retained messages or commands after which another entry is begun.
const PIECE_BYTES: usize = 1024 * 1024;

/// Entries in the making.
#[derive(Default)]
struct Pieces {
    done: Vec<Vec<Record>>,
    piece: Vec<Record>,
    bytes: usize,
    written: BTreeSet<u64>,
}

impl Pieces {
    fn add(&mut self, record: Record, bytes: usize) {
        self.piece.push(record);
        self.bytes += bytes;
        if self.bytes >= PIECE_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.bytes = 0;
        if !self.piece.is_empty() {
            self.done.push(std::mem::take(&mut self.piece));
        }
    }

    /// The message, if no record named it before.
    fn message(&mut self, stored: &Arc<Stored>) {
        if self.written.insert(stored.no) {
            self.piece.push(Record::Message(Arc::clone(stored)));
        }
    }
}

impl Board {
    /// Entries that say all that is kept. One holds one session, or a piece of the rest.
    pub fn snapshot(&self) -> Vec<Vec<Record>> {
        let mut pieces = Pieces::default();
        for (stored, owner) in self.retained.values() {
            pieces.message(stored);
            let record = Record::Retained(Arc::clone(stored), Arc::clone(owner));
            pieces.add(record, stored.message.bytes());
        }
        for (no, line) in self.commands.lines() {
            let bytes = line.body.len() + line.reply.as_ref().map_or(0, |r| r.len());
            pieces.add(Record::Command(no, Arc::clone(line)), bytes + 256);
        }
        pieces.cut();
        for (key, session) in self.sessions.iter().filter(|(_, s)| s.noted) {
            put_session(&mut pieces, key, session);
            pieces.cut();
        }
        pieces.done
    }
}

fn put_session(pieces: &mut Pieces, key: &Key, session: &Session) {
    // Not through `add`: one entry, all or nothing.
    let key = || Arc::clone(key);
    pieces.piece.push(Record::Session {
        key: key(),
        about: session.about.clone(),
        fresh: true,
    });
    if !session.kept() {
        return;
    }
    for wish in session.wishes.values() {
        let record = Record::Subscribed(key(), Arc::clone(wish));
        pieces.piece.push(record);
    }
    let queue = |pieces: &mut Pieces, queued: &Queued| {
        pieces.message(&queued.stored);
        pieces.piece.push(Record::Queued(key(), queued.clone()));
    };
    for flight in &session.flight {
        queue(pieces, &flight.queued);
        pieces.piece.push(Record::Sent(key(), flight.id));
        if flight.released {
            pieces.piece.push(Record::Received(key(), flight.id));
        }
    }
    for queued in &session.queue {
        queue(pieces, queued);
    }
    for id in &session.inbound {
        pieces.piece.push(Record::Inbound(key(), *id));
    }
}
