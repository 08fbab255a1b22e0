"""Independent peers of the gateway: steps `peers`, `peers-legacy` and `peers-rmcp`."""
