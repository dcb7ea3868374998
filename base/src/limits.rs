//! Every bound of the product, with its name and what it protects. Settings may lower some; none is absent.

use std::time::Duration;

use crate::time::SECOND_NS;

// ---- what a device sends (formats.md 1, 2)

/// Bytes of a device id or stream name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a birth or frame payload.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Leads of a stream.
pub const LEADS_MAX: usize = 32;
/// Bytes of a lead name.
pub const LEAD_NAME_BYTES_MAX: usize = 16;
/// Bytes of a unit, model or firmware text.
pub const TEXT_BYTES_MAX: usize = 128;
/// Samples per second.
pub const RATE_HZ_MAX: u32 = 10_000;
/// Samples per lead in one frame.
pub const FRAME_SAMPLES_MAX: u32 = 65_536;
/// Span of one frame.
pub const FRAME_SPAN_NS_MAX: i64 = 60 * SECOND_NS;
/// Boots remembered per stream; the oldest is forgotten first.
pub const BOOTS_PER_STREAM_MAX: usize = 1024;
/// Streams of one device.
pub const STREAMS_PER_DEVICE_MAX: usize = 64;
/// Devices in the registry.
pub const DEVICES_MAX: usize = 100_000;

// ---- time of a sample (formats.md 2)

/// How far before the previous frame's end a frame may begin and still be spread (jitter).
pub const JITTER_NS_MAX: i64 = 50_000_000;
/// A live frame that maps further than this from its receipt sets the clock offset anew.
pub const OFFSET_DRIFT_NS_MAX: i64 = 2 * SECOND_NS;
/// Samples further in the future than this go to quarantine.
pub const FUTURE_NS_MAX: i64 = 300 * SECOND_NS;
/// Samples older than this go to quarantine (a setting).
pub const PAST_NS_MAX: i64 = 30 * 86_400 * SECOND_NS;
/// Samples older than this go to the late lane.
pub const LIVE_AGE_NS_MAX: i64 = 300 * SECOND_NS;
/// Historical frames wait this long for a live frame to set their clock offset.
pub const HISTORICAL_WAIT_NS: i64 = 60 * SECOND_NS;
/// A parked frame goes to quarantine after this.
pub const PARKED_NS_MAX: i64 = 600 * SECOND_NS;
/// `stream assign` without a time is refused while the newest live frame maps further than this.
pub const ASSIGN_SKEW_NS_MAX: i64 = 5 * SECOND_NS;

// ---- cutting and sealing (formats.md 3)

/// Slot length where nothing else is set.
pub const SLOT_NS_DEFAULT: i64 = 300 * SECOND_NS;
/// Greatest slot length; slots are multiples of a page.
pub const SLOT_NS_MAX: i64 = 3600 * SECOND_NS;
/// Length of a page.
pub const PAGE_NS: i64 = 10 * SECOND_NS;
/// A chunk is cut between frames at this many rows.
pub const CHUNK_ROWS_MAX: usize = 1_048_576;
/// Rows no chunk may exceed: the cut falls between frames.
pub const CHUNK_ROWS_HARD: usize = CHUNK_ROWS_MAX + FRAME_SAMPLES_MAX as usize;
/// Bytes of a chunk file that a reader will take into memory.
pub const CHUNK_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a chunk's metadata JSON.
pub const CHUNK_META_BYTES_MAX: usize = 1024 * 1024;
/// Grace after a slot's end before its bucket is sealed, at least.
pub const SEAL_GRACE_NS: i64 = 5 * SECOND_NS;
/// Live frames wait this long for a missing seq.
pub const REORDER_WAIT_NS: i64 = 2 * SECOND_NS;
/// Frames held per stream while waiting for a missing seq.
pub const REORDER_FRAMES_MAX: usize = 4096;
/// Late slots open per stream.
pub const LATE_SLOTS_MAX: usize = 8;
/// A late bucket is sealed after this long without a frame.
pub const LATE_IDLE_NS: i64 = 10 * SECOND_NS;
/// A late bucket is sealed at this age.
pub const LATE_AGE_NS_MAX: i64 = 60 * SECOND_NS;
/// The end of a frame places its successor if the successor is received within this time.
pub const SPREAD_MEMORY_NS: i64 = 120 * SECOND_NS;
/// Seals of different streams are staggered by up to a tenth of the slot, at most this.
pub const SEAL_STAGGER_NS_MAX: i64 = 2 * SECOND_NS;
/// Ranges of missing seqs in one chunk; the chunk is cut before its metadata grows too long.
pub const CHUNK_MISSING_MAX: usize = 8192;
/// Slots of a boot remembered as sealed by time; what falls into them is late.
pub const CLOSED_SLOTS_MAX: usize = 1024;
/// Codes (rows times leads) decoded for one commit; a chunk larger than this is committed alone.
pub const COMMIT_CODES_MAX: u64 = 16 * 1024 * 1024;
/// Sealed chunks handed to storage in one commit: one link sync covers them.
pub const COMMIT_CHUNKS_MAX: usize = 64;
/// Links that a rebuild writes and syncs at a time.
pub const REBUILD_LINKS_AT_ONCE: usize = 16_384;
/// Payload bytes kept in memory for open buckets; older ones are read from the WAL at the seal.
pub const PAYLOAD_CACHE_BYTES_MAX: usize = 128 * 1024 * 1024;

// ---- logs and disk

/// Bytes of a checkpoint of the ledger, as a witness or a gateway keeps it.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// A witness that has not cosigned within this is asked again later.
pub const COSIGN_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two rounds of asking witnesses that have not cosigned.
pub const COSIGN_RETRY: Duration = Duration::from_secs(5);
/// Starts that one record of the WAL may fail; then it is set aside.
pub const REPLAY_STARTS_MAX: u32 = 3;
/// Bytes of the note about such records.
pub const REPLAY_NOTE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of a WAL segment.
pub const WAL_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of the WAL where nothing else is set.
pub const WAL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Doors stop taking data below this much free disk (or 3/4 of the WAL's bound, if that is more).
pub const DISK_FREE_MIN: u64 = 2 * 1024 * 1024 * 1024;
/// Zeros that a log of all that arrives writes ahead at a time: some thousand frames; each time costs one more sync.
pub const WAL_ROOM_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a small journal's segment (links, registry, trail, quarantine, outbox).
pub const JOURNAL_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Zeros that a small journal writes ahead at a time: some hundred records.
pub const JOURNAL_ROOM_BYTES: u64 = 64 * 1024;
/// Records of quarantine that one request looks through.
pub const ASIDE_SCANNED_MAX: u64 = 1_000_000;
/// Bytes of one journal record.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// An idle log writes its durable mark after this.
pub const IDLE_MARK: Duration = Duration::from_millis(200);
/// Records that one group commit takes.
pub const COMMIT_RECORDS_MAX: usize = 4096;

// ---- channels (created in node/src/assemble.rs)

/// Arrivals from the doors waiting for the ingest loop.
pub const ARRIVALS_QUEUE: usize = 4096;
/// Durable records waiting for the windower.
pub const FEED_QUEUE: usize = 8192;
/// Seal orders waiting for the sealer.
pub const SEAL_QUEUE: usize = 256;
/// Births waiting to be announced to monitors.
pub const BIRTHS_QUEUE: usize = 1024;
/// Replies waiting for one connection.
pub const CONNECTION_QUEUE: usize = 1024;
/// Of these, places that a connection's own offers and questions may need: nothing else takes them.
pub const CONNECTION_OWED_MAX: usize = 640;
/// Events waiting for the sequencer.
pub const LEDGER_QUEUE: usize = 4096;
/// Threads with which the checker reads and hashes chunk files; each holds one of them.
pub const CHECK_THREADS_MAX: usize = 64;
/// Chunk files that the checker hands to its threads at one time.
pub const CHECK_FILES_AT_ONCE: usize = 256;
/// Commits of links waiting for the notary.
pub const NOTARY_QUEUE: usize = 256;
/// Trail records waiting for their sync.
pub const TRAIL_QUEUE: usize = 1024;

// ---- doors

/// Connections of a door.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Pause after a failed accept: no file descriptors are left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to say good-bye when a door is closed.
pub const DOOR_GOODBYE: Duration = Duration::from_secs(2);
/// From accept to identity, in all.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Peers of one address that have no identity yet.
pub const UNKNOWN_PER_ADDRESS_MAX: usize = 4096;
/// Connects of one identity per second, and at once.
pub const CONNECTS_PER_ID: u32 = 5;
/// See [`CONNECTS_PER_ID`].
pub const CONNECTS_PER_ID_BURST: u32 = 50;
/// TLS handshakes of one address per second, and at once: a ward may stand behind one address.
pub const CONNECTS_PER_ADDRESS: u32 = 500;
/// See [`CONNECTS_PER_ADDRESS`].
pub const CONNECTS_PER_ADDRESS_BURST: u32 = 10_000;
/// Identities and addresses whose connects are counted.
pub const GATE_KEYS_MAX: usize = 65_536;
/// Bytes of an MQTT packet before identity.
pub const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an MQTT packet after it.
pub const PACKET_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4096;
/// Publishes of one connection waiting for their acknowledgement (MQTT receive maximum).
pub const INFLIGHT_MAX: u16 = 256;
/// Parts of a ZeroMQ message.
pub const ZMTP_PARTS_MAX: usize = 16;
/// Bytes of all parts of a ZeroMQ message: a payload and its names.
pub const ZMTP_MESSAGE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4096;
/// Bytes of a ZMTP command after the handshake; the longest that we know is a PING of 23.
pub const ZMTP_COMMAND_BYTES_MAX: usize = 512;
/// Properties of a ZMTP READY; all of it has [`CONNECT_BYTES_MAX`] bytes.
pub const ZMTP_PROPERTIES_MAX: usize = 32;
/// Bytes of a ZMTP identity (rfc 37).
pub const ZMTP_IDENTITY_BYTES_MAX: usize = 255;
/// Bytes of a PING's context (rfc 37).
pub const ZMTP_CONTEXT_BYTES_MAX: usize = 16;
/// Bytes of publishes of one connection that wait: beyond, it is not read. One publish always fits.
pub const OPEN_BYTES_MAX: usize = 128 * 1024;
/// Topic aliases of a connection, each way.
pub const TOPIC_ALIASES_MAX: u16 = 16;
/// Seconds that a session may outlive its connection.
pub const SESSION_EXPIRY_MAX_S: u32 = 7 * 86_400;
/// Bytes of a ZeroMQ peer's messages that wait for their ack or nack; there may be [`INFLIGHT_MAX`].
pub const ZMQ_INFLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages in a row that a ZeroMQ peer may not say; it is cut at the last.
pub const ZMQ_STRIKES_MAX: usize = 16;
/// PINGs of a ZeroMQ peer that are answered in a second.
pub const ZMQ_PONGS_PER_S: u32 = 10;
/// A silent ZeroMQ peer is asked whether it is there; after [`KEEP_ALIVE_MAX`] it is cut.
pub const ZMQ_PING_EVERY: Duration = Duration::from_secs(10);
/// A ZeroMQ peer that was told `full` is not read for so long, or until there is room.
pub const ZMQ_FULL_PAUSE_NS: u64 = 1_000_000_000;
/// Streams whose right to be spoken for is remembered per connection.
pub const ZMQ_AUTHORISED_MAX: usize = 4096;
/// Keep-alive of a client that asks for none or more.
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(300);
/// Subscriptions of a connection.
pub const SUBSCRIPTIONS_MAX: usize = 64;
/// `ack` messages per device: at most one in this time, and one after each birth.
pub const ACK_EVERY: Duration = Duration::from_secs(1);
/// Ranges in an `ack` message.
pub const ACK_RANGES_MAX: usize = 64;
/// Live frames waiting for one monitor; the oldest is dropped (QoS 0).
pub const LIVE_QUEUE: usize = 256;
/// Monitors with a subscription at a time.
pub const MONITORS_MAX: usize = 4096;
/// A peer that does not take what we send is cut after this.
pub const WRITE_STALL: Duration = Duration::from_secs(10);
/// How long a peer that we closed is heard out, unread by anybody.
pub const LINGER: Duration = Duration::from_secs(1);
/// Bytes of it.
pub const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a door looks whether its certificates or revocations have changed.
pub const TLS_RELOAD_EVERY: Duration = Duration::from_secs(5);
/// How often expiry, revocation and disabling of connected peers is looked at.
pub const RECHECK_EVERY: Duration = Duration::from_secs(20);

// ---- the exchange: messages between clients

/// Requests waiting for the exchange.
pub const EXCHANGE_QUEUE: usize = 4096;
/// Below this much free disk the exchange keeps nothing new. The doors have shut long before.
pub const EXCHANGE_FREE_MIN: u64 = 512 * 1024 * 1024;
/// Sessions that are kept, connected or not.
pub const CLIENT_SESSIONS_MAX: usize = 100_000;
/// Levels of a topic or filter.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Bytes of a topic or filter.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Deliveries with QoS > 0 that one client may have unfinished, whatever it allows.
pub const DELIVERIES_MAX: usize = 512;
/// Messages that wait for one session; the oldest goes first.
pub const SESSION_QUEUE_MAX: usize = 16_384;
/// Bytes of messages that wait for one session or are in flight to it.
pub const SESSION_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of messages that wait for all sessions; beyond, publishers are refused.
pub const QUEUED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Retained messages of one device (or, in the open profile, of one publisher).
pub const RETAINED_PER_OWNER_MAX: usize = 256;
/// Bytes of them.
pub const RETAINED_OWNER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Retained messages in all.
pub const RETAINED_MAX: usize = 262_144;
/// Bytes of them.
pub const RETAINED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Commands of one device that wait or are listed; the oldest finished one is forgotten first.
pub const COMMANDS_PER_DEVICE_MAX: usize = 64;
/// Bytes of a command's JSON.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a reply to one.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

// ---- bridge to an existing broker

/// Messages of the broker that wait for our sync (MQTT 5: receive maximum); beyond, nothing is read.
pub const BRIDGE_WINDOW: u16 = 128;
/// From the first byte to the broker's answer to our subscription, in all.
pub const BRIDGE_CONNECT: Duration = Duration::from_secs(15);
/// Something is sent, and heard, at least this often.
pub const BRIDGE_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause before the first try to connect again; doubled from try to try.
pub const BRIDGE_PAUSE_MIN: Duration = Duration::from_millis(250);
/// Pause at most.
pub const BRIDGE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// At a stop, what is in the log may still be acknowledged within this.
pub const BRIDGE_GOODBYE: Duration = Duration::from_secs(2);
/// Complaints of one kind are said in the log at most this often.
pub const BRIDGE_SAY_EVERY: Duration = Duration::from_secs(60);

// ---- ledger (formats.md 5)

/// Bytes of a ledger entry.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Events of a block.
pub const BLOCK_EVENTS_MAX: usize = 400;
/// Entries of the ledger whose keys are kept in memory before they become a run of its index: about ten
/// megabytes, and what a start reads again.
pub const LEDGER_RUN_ENTRIES: u64 = 65_536;
/// Bytes of a batch of the ledger in its journal: every entry, and the block, at its longest.
pub const LEDGER_BATCH_BYTES_MAX: usize = (BLOCK_EVENTS_MAX + 1) * (ENTRY_BYTES_MAX + 8) + 1024;
/// Bytes of a segment of the ledger's journal of batches.
pub const LEDGER_BATCHES_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Zeros that it writes ahead at a time: some large batches, or a thousand of one event.
pub const LEDGER_BATCHES_ROOM_BYTES: u64 = 1024 * 1024;
/// Batches that are durable in the journal and not in `ledger/` yet: what a start after a crash applies again.
pub const LEDGER_BATCHES_BEHIND_MAX: usize = 256;
/// Full tiles and bundles of them, each an open file until it is synced.
pub const LEDGER_TILES_BEHIND_MAX: usize = 64;
/// A batch is in `ledger/` so long after it was answered, or hardly later.
pub const LEDGER_SETTLE_AFTER: Duration = Duration::from_secs(1);
/// A did with new links is anchored at least this often.
pub const ANCHOR_EVERY_NS: i64 = 10 * SECOND_NS;
/// Streams up to which each head is anchored by an event of its own; with more of them the log would grow with
/// streams rather than with time.
pub const HEADS_ALONE_STREAMS: usize = 1_000;
/// Heads that one event anchors: 256 KiB of tags and digests, and as many look-ups before it enters.
pub const HEADS_TOGETHER_MAX: usize = 4_096;
/// Sets of such heads that the ledger keeps in memory: about half a megabyte each with their tree.
pub const HEAD_SETS_KEPT: usize = 16;
/// `audit-head` at least this often.
pub const AUDIT_EVERY_NS: i64 = 3600 * SECOND_NS;
/// Logs that one witness follows.
pub const WITNESS_LOGS_MAX: usize = 1024;
/// Hashes of a consistency proof that a witness is sent (C2SP tlog-witness).
pub const WITNESS_PROOF_MAX: usize = 63;
/// Bytes of a request to a witness: a checkpoint, and before it the old size and the proof.
pub const WITNESS_REQUEST_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 4096;
/// Keys that a trust file retires; readers in other languages bound them alike.
pub const RETIRED_KEYS_MAX: usize = 4096;
/// Pairs of notes that a witness keeps as evidence, of each kind; what comes later is only said in its log.
pub const WITNESS_EVIDENCE_MAX: usize = 256;

// ---- queries (formats.md 8)

/// A request token lives at most this long.
pub const TOKEN_LIFE_S_MAX: i64 = 300;
/// A request token may be issued this far in our future.
pub const TOKEN_AHEAD_S_MAX: i64 = 60;
/// Bytes of a request token.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Links in one proof or listing.
pub const LINKS_MAX: usize = 100_000;
/// Proofs that are joined in one text.
pub const JOINED_PROOFS_MAX: usize = 1000;
/// Rows of one answer.
pub const ANSWER_ROWS_MAX: u64 = 50_000_000;
/// Sessions in the directory.
pub const SESSIONS_MAX: usize = 100_000;
/// Sections of a session record.
pub const SECTIONS_MAX: usize = 64;
/// Grants in a section.
pub const GRANTS_MAX: usize = 1024;
/// Texts about one stream in a grant or an inventory.
pub const METADATA_MAX: usize = 64;
/// Bytes of one of them, its name, or an address in an inventory.
pub const METADATA_BYTES_MAX: usize = 1024;
/// Streams of an inventory: one section can grant all of them.
pub const INVENTORY_ENTRIES_MAX: usize = GRANTS_MAX;
/// Inventories of one patient, removed ones too: their ids stay taken.
pub const INVENTORIES_PER_PATIENT_MAX: usize = 256;
/// Inventories in the directory, removed ones too.
pub const INVENTORIES_MAX: usize = 100_000;
/// A session's record goes this long after all of it has expired; its event stays in the log.
pub const EXPIRED_KEPT_NS: i64 = 30 * 86_400 * SECOND_NS;
/// How often the directory is looked through for such records.
pub const EXPIRED_LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Answers at work at one time.
pub const ANSWERS_AT_ONCE: usize = 128;
/// Bytes of chunk files, read and compared with their links, that are kept for the next request.
pub const CHUNKS_HELD_BYTES: u64 = 256 * 1024 * 1024;
/// A chunk file is read and compared again after this, whatever the disk says of it.
pub const CHUNK_AGE_NS: u64 = 60_000_000_000;
/// Sessions whose sections are kept opened; each request still asks for its record and for a revocation.
pub const SESSIONS_HELD_MAX: usize = 1024;
/// Bytes of a record whose sections are kept opened.
pub const SESSION_HELD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's query string.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request token's id.
pub const JTI_BYTES_MAX: usize = 128;
/// Ids of request tokens that have not expired yet; when full, requests are refused.
pub const JTIS_MAX: usize = 1_000_000;
/// Bytes of the body of an operator's request.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of `format` in a record of the trail.
pub const TRAIL_FORMAT_BYTES_MAX: usize = 256;
/// Rows, links or entries of one JSON listing.
pub const LISTED_MAX: usize = 10_000;
/// Bytes of chunks that all answers at work may hold decoded.
pub const ANSWERS_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Pages times columns of one proof bundle.
pub const PROOF_COLUMNS_MAX: u64 = 500_000;
/// Rows of one piece of an answer.
pub const PIECE_ROWS: usize = 8192;
/// Rows of a row group of a Parquet answer; one is in memory while it is filled.
pub const PARQUET_GROUP_ROWS: usize = 65_536;
/// Runs of evenly spaced rows in an answer of a format that knows samples at a rate and no times.
pub const ANSWER_RUNS_MAX: usize = 100_000;
/// Stretches between long gaps in such an answer.
pub const ANSWER_STRETCHES_MAX: usize = 4096;
/// Gaps up to this long are filled with "no value" in such an answer.
pub const GAP_FILL_NS: i64 = 10 * SECOND_NS;
/// Codes (samples times leads) that are filled in for gaps of one answer.
pub const GAP_FILL_CODES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that say what such an answer itself cannot: times to the nanosecond.
pub const ANSWER_SIDE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Samples per lead of one FHIR Observation, which is made in memory.
pub const FHIR_SLOTS_MAX: u64 = 65_536;
/// Bytes of the samples of a data record, as EDF+ recommends.
pub const EDF_RECORD_BYTES_MAX: u64 = 61_440;
/// Bytes of the annotations of a data record.
pub const EDF_NOTES_BYTES_MAX: usize = 65_536;
/// Points of each lead of an overview.
pub const OVERVIEW_POINTS_MAX: u64 = 100_000;
/// Gaps that the header of an answer names.
pub const GAPS_LISTED_MAX: usize = 64;
/// Bytes that an encoder for compressed answers holds.
pub const ENCODER_BYTES: u64 = 4 * 1024 * 1024;
/// Pieces of one answer waiting for its reader.
pub const PIECES_QUEUE: usize = 4;
/// A reader that takes no piece for this long is cut off. A connection that takes nothing is cut sooner, by its
/// least rate; this is for what that cannot see: one stream of many in a connection, and a piece of a megabyte may
/// be on its way to somebody slow.
pub const READER_STALL: Duration = Duration::from_secs(120);
/// Answers of them that may be one party's.
pub const PARTY_ANSWERS_MAX: usize = ANSWERS_AT_ONCE - ANSWERS_AT_ONCE / 8;
/// And one session's.
pub const SESSION_ANSWERS_MAX: usize = ANSWERS_AT_ONCE - ANSWERS_AT_ONCE / 6;
/// Requests of one party per second, and at once.
pub const PARTY_REQUESTS_PER_S: u64 = 2000;
/// See [`PARTY_REQUESTS_PER_S`].
pub const PARTY_REQUESTS_BURST: u64 = 4000;
/// Parties whose requests are counted at one time.
pub const PARTIES_PACED_MAX: usize = 65_536;
/// Live readers at one time.
pub const LIVE_READERS_MAX: usize = 512;
/// Events waiting for one live reader.
pub const LIVE_EVENTS_QUEUE: usize = 16;
/// A live reader whose events have waited for so long is dropped.
pub const LIVE_STALL: Duration = Duration::from_secs(5);
/// A live reader that has nothing to read sees a sign of life this often.
pub const LIVE_BEAT: Duration = Duration::from_secs(5);
/// Rows this much later than now are waited for by a live answer; later ones are left out of it.
pub const LIVE_AHEAD_NS_MAX: i64 = 2 * SECOND_NS;
/// Bytes of the newest frames of all streams in memory, for live readers; the oldest goes first.
pub const TAIL_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of those of one stream.
pub const TAIL_STREAM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames received longer ago than this are let go: a slot lasts an hour at most, and its bucket some minutes more.
pub const TAIL_AGE_NS: i64 = 2 * SLOT_NS_MAX;
/// Boots of a stream whose frames can be shown live.
pub const TAIL_BOOTS_MAX: usize = 16;
/// A grant is looked at again at least this often while its answer is being sent.
pub const GRANT_RECHECK_NS: u64 = 500_000_000;
/// A proof bundle or answer that the checker will read.
pub const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

// ---- HTTP connections (node/src/serving.rs)

/// Connections of one HTTP listener; further ones wait to be accepted.
pub const HTTP_CONNECTIONS_MAX: usize = 4096;
/// Those of one address; further ones are closed. A hospital may stand behind one address.
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 2048;
/// From the first byte of a request's head to its last, and from the accept to the first request.
pub const HTTP_HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// From a request's head to the end of its body.
pub const HTTP_BODY_DEADLINE: Duration = Duration::from_secs(10);
/// A connection on which nothing has been asked for so long is closed.
pub const HTTP_IDLE: Duration = Duration::from_secs(60);
/// An older connection is told goodbye; no answer takes longer.
pub const HTTP_CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
/// Header lines of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of them: a token, and as much again.
pub const HTTP_HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of a request's path and query.
pub const HTTP_TARGET_BYTES_MAX: usize = QUERY_BYTES_MAX + 1024;
/// Bytes of an HTTP/1 connection's buffer: a head that does not fit is refused.
pub const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Streams of one that a peer may reset before they are looked at, or break, until it is sent away.
pub const HTTP2_RESETS_MAX: usize = 32;
/// Bytes of one request's body that may be on their way.
pub const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of all bodies on one connection that may be on their way.
pub const HTTP2_CONNECTION_WINDOW: u32 = 256 * 1024;
/// A silent HTTP/2 peer is asked whether it is there.
pub const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
/// It is cut if it does not answer.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// While a reader lets us wait it takes at least [`HTTP_TAKE_BYTES_MIN`] in each such span.
pub const HTTP_TAKE_SPAN: Duration = Duration::from_secs(20);
/// See [`HTTP_TAKE_SPAN`].
pub const HTTP_TAKE_BYTES_MIN: u64 = 64 * 1024;
/// Send buffer of a reader's connection, in the kernel (which doubles it): what is taken is seen in thirds of it.
pub const HTTP_SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Connections that wait to be accepted.
pub const HTTP_BACKLOG: u32 = 1024;

// ---- traces (node/src/trace.rs)

/// Spans that wait for the collector; further ones are dropped and counted. About 1 MiB.
pub const TRACE_QUEUE: usize = 4096;
/// Spans of one request to it.
pub const TRACE_BATCH: usize = 512;
/// Longest time that a span waits for others to go with.
pub const TRACE_EVERY: Duration = Duration::from_secs(1);
/// From connecting to the collector to the end of its answer.
pub const TRACE_SEND_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of its answer.
pub const TRACE_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// While it takes nothing, that is said so often.
pub const TRACE_COMPLAIN_EVERY: Duration = Duration::from_secs(300);
/// Longest time that an orderly stop waits for it to take the last spans.
pub const TRACE_FLUSH_DEADLINE: Duration = Duration::from_secs(2);

// ---- reports (anchor/chain/src/report.rs)

/// Gaps that a report names one by one; further ones are counted.
pub const REPORT_GAPS_MAX: usize = 10_000;
/// Pieces of a report's picture, about.
pub const REPORT_BAND_MAX: i64 = 2_000;
/// Span of one request for a report's evidence.
pub const REPORT_PIECE_NS: i64 = 6 * 3600 * SECOND_NS;
/// Span of one report.
pub const REPORT_SPAN_NS_MAX: i64 = 31 * 24 * 3600 * SECOND_NS;
/// Bytes of a report with its evidence.
pub const REPORT_BYTES_MAX: u64 = 512 * 1024 * 1024;

// ---- strips (query/src/strip.rs)

/// Span of a strip: what people look through in lines of ten seconds. The page itself refuses more.
pub const STRIP_SPAN_NS_MAX: i64 = 600 * SECOND_NS;
/// Codes (rows times leads) of a strip: ten minutes of twelve leads at 500 Hz, a file of 23 MB.
pub const STRIP_CODES_MAX: u64 = 12 * 600 * 500;

// ---- the gateway (ingest/src/gateway)

/// Bytes of the spool where nothing else is set.
pub const SPOOL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Items in the spool that are not upstream yet; each costs about 100 bytes of memory.
pub const SPOOL_ITEMS_MAX: u64 = 2_000_000;
/// Bytes that must stay free on the disk of the spool where nothing else is set.
pub const SPOOL_FREE_MIN: u64 = 256 * 1024 * 1024;
/// Boots of a stream of which a gateway remembers births and acknowledged seqs.
pub const SPOOL_BOOTS_MAX: usize = 16;
/// Items on the uplink that have not been answered.
pub const UPLINK_ITEMS_MAX: usize = 256;
/// Bytes of them.
pub const UPLINK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an item counts beside its payload: names, numbers, framing.
pub const UPLINK_ITEM_OVERHEAD: usize = 256;
/// Batches of messages between the uplink's connection and the spool's thread, each way.
pub const UPLINK_QUEUE: usize = 256;
/// Nothing is sent for so long after the node upstream had no room.
pub const UPLINK_PAUSE: Duration = Duration::from_secs(1);
/// A connection on which something waits longer for its answer is cut.
pub const UPLINK_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// First pause before another attempt to connect.
pub const UPLINK_RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause before another attempt to connect.
pub const UPLINK_RETRY_MAX: Duration = Duration::from_secs(10);
/// Devices behind one gateway.
pub const GATEWAY_DEVICES_MAX: usize = 4096;

// Relations that other code relies on.
const _: () = assert!(SLOT_NS_DEFAULT % PAGE_NS == 0 && SLOT_NS_MAX % PAGE_NS == 0);
const _: () = assert!(PAYLOAD_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(ZMTP_MESSAGE_BYTES_MAX < ZMQ_INFLIGHT_BYTES_MAX);
const _: () = assert!((INFLIGHT_MAX as usize) < CONNECTION_QUEUE);
const _: () = assert!(BLOCK_EVENTS_MAX < LEDGER_QUEUE);
const _: () = assert!((RECORD_BYTES_MAX as u64) < WAL_SEGMENT_BYTES);

// ---- the simulated fleet (device-sim)

/// Bytes of a WFDB signal file that the simulator will take into memory.
pub const SIM_RECORD_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Payload bytes that one simulated device keeps until they are acknowledged.
pub const SIM_SPOOL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Frames that one simulated device may have in flight; below every receive maximum in use.
pub const SIM_INFLIGHT_MAX: usize = 200;
/// Devices of one simulated fleet.
pub const SIM_DEVICES_MAX: usize = 10_000;
/// Acknowledged frames waiting for their line in the fsynced list.
pub const SIM_ACKED_QUEUE: usize = 8192;
/// Events of one connection waiting for their simulated device.
pub const SIM_EVENTS_QUEUE: usize = 1024;
/// Payload bytes that one simulated device may have in flight: the credit of the ZeroMQ door.
pub const SIM_CREDIT_BYTES: usize = 4 * 1024 * 1024;
/// Commands that one simulated device remembers, so that none is executed twice.
pub const SIM_ORDERS_MAX: usize = 256;
