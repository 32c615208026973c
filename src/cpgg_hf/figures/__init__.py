"""Pictures of cines for reports and papers; matplotlib is loaded when the first one is drawn."""
