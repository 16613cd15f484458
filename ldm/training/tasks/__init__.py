"""What is trained: the diffusion U-Net, the autoencoder, the segmenter, and their losses and validation."""
