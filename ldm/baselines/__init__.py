"""The GANs of the paper's Table 1: GauGAN, CLADE, SCGAN and SEAN. Names of weights are the published ones."""
