"""`python -m fmcourse` is the command `fmcourse`; so `torchrun -m fmcourse train gpt` uses several GPUs."""

from fmcourse.cli import run

run()
