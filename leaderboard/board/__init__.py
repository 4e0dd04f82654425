"""The board: what its pages say, as records."""
