"""The constrained recurrent soft actor-critic: networks, losses, multiplier."""
