"""The segmentation U-Net, and the synthetic images it is trained on."""
