"""From the edges of a trained KAN to a formula."""
