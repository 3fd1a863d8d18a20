//! The server from outside: real sockets on loopback, real files, real clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod alerts;
mod api;
mod api_document;
mod api_hooks;
mod backup;
mod claims;
mod cli;
mod client;
mod control;
mod device_driver;
mod diagnose;
mod drive;
mod fake_gateway;
mod fan_out;
mod hooks;
mod identity;
mod master_keys;
mod nat;
mod presence;
mod priorities;
mod product_streams;
mod prometheus;
mod publish_limits;
mod registry_gone;
mod resume;
mod rig;
mod runbooks;
mod secrets;
mod sessions;
mod sick_disk;
mod stalls;
mod takeover;
mod tcp;
mod tcp_driver;
mod vitals;
mod waiting_room;
mod webhooks_document;
