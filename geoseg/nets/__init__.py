"""The network architectures: plain torch modules."""
