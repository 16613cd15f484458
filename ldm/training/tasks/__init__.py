"""The tasks that can be trained (U-Net, autoencoder, segmenter), with their losses and validation."""
