"""From a talking-portrait video to a data set, one module a step."""
