"""The networks of CPGG: phenotype VAE, 3D-VAE, masked autoregressive transformer; their scheduler and converters."""
