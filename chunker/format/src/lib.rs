//! Rows to Parquet bytes and back.
