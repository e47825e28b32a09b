"""Pictures of networks and of their edges, with matplotlib."""
