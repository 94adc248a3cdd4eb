"""MAKE IT LEARN: one loop for anything with `.loss(tokens)`."""
