//! The published table of features (MedChain, Table 4), with a test behind each mark of ours.
//!
//! The text that we have of the paper has lost the heads of the table's columns: eight schemes, the last of them the
//! paper's own. `tests/it` looks each test up by file and name, and whether it is one.

/// A row of the table.
pub struct Feature {
    /// As the paper calls it.
    pub name: &'static str,
    /// How many of its seven predecessors the paper gives the mark.
    pub predecessors: u32,
    /// What it means here.
    pub here: &'static str,
    /// File below the project and function of each test that holds it.
    pub tests: &'static [(&'static str, &'static str)],
}

/// The table. The paper gives its own scheme every mark.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "Attack Resistance",
        predecessors: 7,
        here: "masquerade, replay of a request, of an inventory and of an update (the paper's 5.1)",
        tests: &[
            (
                "query/tests/it/inventories.rs",
                "f22_nobody_else_signs_for_a_patient",
            ),
            (
                "query/tests/it/inventories.rs",
                "f23_who_intercepts_an_inventory_reads_nothing",
            ),
            (
                "query/tests/it/inventories.rs",
                "f24_no_old_update_and_no_altered_one_is_taken",
            ),
            (
                "query/tests/it/directory.rs",
                "f25_a_request_replayed_brings_nothing",
            ),
            (
                "anchor/chain/tests/it/key_independence.rs",
                "f26_a_key_opens_its_own_section_and_no_other",
            ),
        ],
    },
    Feature {
        name: "Access Control",
        predecessors: 4,
        here: "a session on the ledger is the grant; no row and no lead beyond it is sent",
        tests: &[
            (
                "query/tests/it/access.rs",
                "h08_never_a_cell_too_many_and_none_missing",
            ),
            ("query/tests/it/refused.rs", "h08_windows_beyond_the_grant"),
            (
                "query/tests/it/directory.rs",
                "f29_who_asked_for_more_than_was_granted_cannot_deny_it",
            ),
        ],
    },
    Feature {
        name: "Access Revocation",
        predecessors: 2,
        here: "at the next request, also in the middle of an answer; the end is an event of the ledger",
        tests: &[
            (
                "query/tests/it/refused.rs",
                "h07_a_revoked_session_stays_revoked",
            ),
            (
                "query/tests/it/answers_ended.rs",
                "h19_a_grant_that_ends_breaks_its_answer_off",
            ),
            (
                "anchor/tests/it/ledger_rules.rs",
                "a_session_is_revoked_by_its_own_patient_only",
            ),
        ],
    },
    Feature {
        name: "Block Search",
        predecessors: 3,
        here: "an event by did and index, and chunks by time",
        tests: &[
            (
                "anchor/tests/it/ledger_rules.rs",
                "events_get_their_place_under_a_checkpoint_and_a_receipt",
            ),
            (
                "storage/tests/it/catalogue.rs",
                "touching_is_half_open_and_finds_late_chunks",
            ),
            (
                "query/tests/it/answers.rs",
                "random_windows_are_exact_and_proven",
            ),
        ],
    },
    Feature {
        name: "Metadata Update",
        predecessors: 0,
        here: "a new version of an inventory, without an event",
        tests: &[(
            "query/tests/it/inventories.rs",
            "f17_metadata_and_addresses_change_without_the_ledger",
        )],
    },
    Feature {
        name: "Storage Space Recycling",
        predecessors: 0,
        here: "of session records and inventories",
        tests: &[
            (
                "storage/tests/it/directory.rs",
                "f13_revoking_and_removing_recycle_the_space",
            ),
            (
                "query/tests/it/directory.rs",
                "f13_records_that_expired_long_ago_are_swept_and_stay_away",
            ),
        ],
    },
    Feature {
        name: "Data Stream Support",
        predecessors: 0,
        here: "a chain of links per stream, verified as a whole with one look-up",
        tests: &[
            (
                "anchor/chain/tests/it/stream.rs",
                "a_clean_stream_costs_one_lookup_however_long",
            ),
            (
                "anchor/chain/tests/it/stream.rs",
                "a_forged_end_is_found_by_halving",
            ),
            (
                "anchor/checker/tests/it/rows.rs",
                "s03_without_links_the_chunk_files_and_the_ledger_tell_the_same",
            ),
        ],
    },
];
