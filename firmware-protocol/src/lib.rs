//! What devices speak.
pub mod dtls;
pub mod error;
pub mod id;
pub mod path;
pub mod session;
pub mod time;
