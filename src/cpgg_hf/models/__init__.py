"""The networks of CPGG (phenotype VAE, 3D-VAE, masked autoregressive transformer), guidance, scheduler, converters."""
