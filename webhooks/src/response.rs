//! Makes of an answer the events that are published.
