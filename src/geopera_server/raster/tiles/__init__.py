"""How one Web Mercator tile comes about: placed on the raster's grid, read, sampled, coloured, encoded."""
