//! The parts of the server, for its binary and its tests.

pub mod journal;
