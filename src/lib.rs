//! Holdfast's server: sockets, threads, journal, stores, REST and wiring. The only place that knows all parts.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod data_dir;
pub mod dates;
pub mod demo;
pub mod durable_file;
pub mod entropy;
pub mod generation;
pub mod generations;
pub mod handshakes;
pub mod journal;
pub mod keys;
pub mod logging;
pub mod mailbox;
pub mod metrics;
pub mod server;
pub mod shards;
pub mod store;
pub mod strangers;
pub mod streams;
pub mod terminators;
pub mod writer;
