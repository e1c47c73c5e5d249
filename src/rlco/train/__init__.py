"""Stage I and Stage II: losses become gradients here. One process, no world's hidden parameters."""
