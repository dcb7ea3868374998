//! The windower: cuts streams into chunks, seals them, replays the log.
