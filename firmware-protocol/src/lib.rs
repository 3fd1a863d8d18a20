//! What devices speak.
pub mod coap;
pub mod crypto;
pub mod device;
pub mod dtls;
pub mod entropy;
pub mod error;
pub mod id;
pub mod path;
pub mod session;
pub mod tcp;
pub mod time;
mod wire;
