"""From a trained network to conductance maps, simulated and measured arrays, and back."""
