//! What a step of the board wants done. Nothing of it is told before what it keeps is committed.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    record::{Record, Stored},
    request::{Answer, ToClient},
};
use crate::core::arrival::ConnId;

/// See the module.
#[derive(Debug, Default)]
pub struct Effects {
    /// What must be kept, as one journal entry.
    pub records: Vec<Record>,
    /// Whether something of `out` relies on the records; if not, they may wait for the next commit.
    pub urgent: bool,
    /// Who hears what, in this order.
    pub out: Vec<(ConnId, ToClient)>,
    /// Connections that hear nothing after that.
    pub gone: Vec<ConnId>,
    /// Messages that were not delivered, or requests that meant nothing, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// A command or a retained status has changed.
    pub changed: bool,
    /// The message of this step that no record has named yet.
    unwritten: Option<Arc<Stored>>,
}

impl Effects {
    /// Keeps a record; the first one that names a new message is preceded by the message.
    pub(super) fn keep(&mut self, record: Record) {
        let names = |stored: &Arc<Stored>| record.names().is_some_and(|n| n.no == stored.no);
        if let Some(stored) = self.unwritten.take_if(|stored| names(stored)) {
            self.records.push(Record::Message(stored));
        }
        self.records.push(record);
    }

    /// A message that is not in the journal yet, and may never have to be.
    pub(super) fn new_message(&mut self, stored: &Arc<Stored>) {
        self.unwritten = Some(Arc::clone(stored));
    }

    pub(super) fn tell(&mut self, conn: ConnId, what: ToClient) {
        self.out.push((conn, what));
    }

    pub(super) fn answer(&mut self, conn: ConnId, token: u64, answer: Answer) {
        self.tell(conn, ToClient::Answer(token, answer));
    }

    pub(super) fn drop_one(&mut self, why: &'static str) {
        *self.dropped.entry(why).or_default() += 1;
    }
}
