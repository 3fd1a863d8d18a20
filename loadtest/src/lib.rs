//! Simulated fleets of protocol-true devices, drills that break a real server while a fleet uses it, and benchmarks of that server's own CPU time.
//!
//! Everything speaks to loopback addresses only. Nothing here knows the server's code: it is run as a program ([`server`], [`cli`]), spoken to by
//! devices ([`fleet`]), over bad networks if need be ([`chaos`]), and judged by what those devices saw and what it says that it accepted ([`drill`]).
//! Receivers of webhooks share with it what any receiver has to know: how signatures are checked, and how times are written.

mod api;
pub mod args;
pub mod bench;
mod callers;
pub mod chaos;
pub mod cli;
pub mod commands;
mod cores;
mod dial;
pub mod drill;
mod faults;
pub mod fleet;
pub mod flood;
mod freezer;
mod herald;
mod hooks;
mod http;
pub mod keys;
pub mod loud;
mod metrics;
mod progress;
mod reader;
pub mod report;
pub mod server;
mod sick_disk;
mod socket_drops;
pub mod stats;
mod threads;
mod timers;
