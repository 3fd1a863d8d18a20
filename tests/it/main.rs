//! The server from outside: real sockets on loopback, real files, real clients.

mod api;
mod client;
mod device_driver;
mod fake_gateway;
mod rig;
mod sessions;
