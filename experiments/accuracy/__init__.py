"""How near fits come to what their splines can represent."""
