"""The commands of `unet-train`, a module each.

A module has `HELP` (one line), `parser(arguments)`, which gets the command line because
some defaults come from the run that it names, and `run(options)`, which returns the
exit status. Parsing needs no TensorFlow: modules import it in `run`.
"""
