//! Which addresses requests may go to.
