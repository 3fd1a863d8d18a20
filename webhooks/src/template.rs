//! Mustache templates over JSON values.
