"""A page on which a graph is chosen, its round is seen and touched, and its network is trained."""
