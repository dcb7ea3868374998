//! Golden metadata: a good text and its reading, and a bad twin for every rule.
