"""Search how to convert a model: what can be chosen, tried on the simulator, weighed by cost."""
