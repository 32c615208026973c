"""The stages that can be trained: data, network, loss and validation of each."""
