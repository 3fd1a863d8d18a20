//! Sends one request and says how it went.
