"""Images by digest, verification of their signatures, and charts of operators."""
