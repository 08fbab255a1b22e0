//! Looking at a store that nobody has open, and saving what can be read of a damaged one.
