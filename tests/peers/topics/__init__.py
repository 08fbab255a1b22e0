"""The topics of step `peers-legacy`: each has `PARTS`, stories that get a stage of their own and do not need each other."""
