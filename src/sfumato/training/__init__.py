"""How the bundled model is made: the art it learns from, the autoencoder, then text encoder and U-Net together."""
