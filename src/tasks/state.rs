//! What may happen to a task, as a plain state machine.
