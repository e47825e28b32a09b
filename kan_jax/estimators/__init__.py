"""KANs with scikit-learn's interface, for tables of numbers."""
