"""KAN layers: edges, nodes and the functions that edges may carry."""
