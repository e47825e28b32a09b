"""From data to trained variables: steps, fits, optimizers, devices."""
