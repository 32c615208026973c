"""Training of every network: one loop (`loop.py`) and one file per stage (`stages/`).

The loop resumes, averages weights, logs and saves; a stage defines data, network, loss and validation.
"""
