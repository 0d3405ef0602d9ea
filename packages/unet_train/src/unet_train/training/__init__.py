"""The loop: the trainer's order of events, and what it is made of.

`trainer.py` is the order of events; `run.py` the state of a run and what is due;
`validation.py` scores it; `loop.py` is many steps in one graph; `devices.py` where it
runs; `signals.py` what stops it; `callback.py` the interface of who is told.
"""
