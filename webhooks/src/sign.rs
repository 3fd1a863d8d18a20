//! Signs requests, as Standard Webhooks 1.0 says.
