//! The server from outside: real sockets on loopback, real files, real clients.

mod device_driver;
mod sessions;
