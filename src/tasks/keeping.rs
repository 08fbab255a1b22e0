//! How the records of a task are written and read: three of them, under one key.

use crate::store::records::Space;

/// Records of tasks.
pub(super) const TASKS: Space = Space::new("task");
