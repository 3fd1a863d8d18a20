//! The one integration binary: the server's parts over real sockets and files, a module per subject.

mod api;
mod client;
mod fake_gateway;
mod rig;
