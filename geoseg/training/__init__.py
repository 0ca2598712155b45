"""How networks learn from scenes and labels: losses, samplers, training itself."""
