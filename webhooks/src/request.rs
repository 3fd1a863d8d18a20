//! Makes of a hook and an event the request that is sent.
