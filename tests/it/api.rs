//! The REST API as clients meet it.

mod accounts;
mod bulkheads;
mod calls;
mod conventions;
mod description;
mod devices;
mod diagnostics;
mod elsewhere;
mod events;
mod hooks;
mod idempotency;
mod isolation;
mod limit_table;
mod limits;
mod ownership;
mod products;
mod serial_numbers;
mod tls;
mod twins;
