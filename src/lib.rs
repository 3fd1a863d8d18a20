//! Holdfast's server: sockets, threads, journal, stores, REST and wiring. The only place that knows all parts.

pub mod api;
pub mod config;
pub mod data_dir;
pub mod dates;
pub mod durable_file;
pub mod keys;
pub mod store;
