//! The commit of a sealed chunk, the catalogue, the registry and the directory.
