//! Holdfast's server: sockets, threads, journal, stores, REST and wiring. The only place that knows all parts.

pub mod config;
pub mod dates;
pub mod store;
