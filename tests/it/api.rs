//! The REST API as clients meet it.

mod accounts;
mod calls;
mod conventions;
mod devices;
mod diagnostics;
mod description;
mod elsewhere;
mod events;
mod isolation;
mod limits;
mod ownership;
mod products;
mod serial_numbers;
mod tls;
