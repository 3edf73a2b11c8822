"""Networks that others use to generate molecules and crystals, to compare speed with.

Each is written here in plain PyTorch from its paper, in its published configuration, with random weights:
what is compared is the time of an evaluation, times the published number of evaluations.
`registry.BASELINES` lists them.
"""
