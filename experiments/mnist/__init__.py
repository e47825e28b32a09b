"""Trains, sweeps, measures and exports the models of the MNIST job."""
