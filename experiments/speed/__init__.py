"""How long layers and whole jobs take, beside those of others."""
