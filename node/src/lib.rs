//! The chordae binary: command line, settings, assembly, start and stop.
