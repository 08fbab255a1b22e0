//! How the records of a task are written and read: three of them, under one key.
