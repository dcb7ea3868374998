//! Tests of the query service, one binary.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod answers;
mod answers_ended;
mod bodies;
mod directory;
mod formats;
mod grant_rows;
mod http_rows;
mod inventories;
mod live;
mod refused;
mod report;
mod time_rows;
mod trail;
mod viewer;
mod whole;
mod world;
