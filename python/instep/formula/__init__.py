"""From a function of NumPy arrays to the graph of its operations."""
