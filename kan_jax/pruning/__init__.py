"""What matters in a network, and a network without the rest."""
