"""The one training loop: resume, EMA, precision, logging, checkpoints; a stage gives it build, loss, validate.

`loop.py` is the algorithm; `vae_stage.py`, `mar_stage.py` and `phenotype_vae_stage.py` say what is trained on what.
"""
