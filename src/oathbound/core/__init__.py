"""The nouns: pure values, without clock, disk, network or randomness."""
