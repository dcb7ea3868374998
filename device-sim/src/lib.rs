//! A fleet of simulated devices: WFDB records, synthetic ECG, spool until acknowledged.
