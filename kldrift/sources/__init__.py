"""Pull sources: one transport a file. Each yields `Chunk`s and can go back to a position."""
