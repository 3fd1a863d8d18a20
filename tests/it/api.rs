//! The REST API as clients meet it.

mod accounts;
mod calls;
mod conventions;
mod devices;
mod diagnostics;
mod events;
mod limits;
mod ownership;
mod products;
mod tls;
