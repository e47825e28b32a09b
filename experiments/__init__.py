"""Programs a person runs; each is `python -m experiments.ROOM.NAME --flags`.

Imports point one way: cli -> data -> devices -> mnist -> {view, speed}, and
cli -> data -> {accuracy, formula}. The library never imports from here.
"""

import signal
import sys

# While a program imports its libraries, which takes seconds, Ctrl-C ends it at
# once and without a traceback; `cli.run` then takes over.
if sys.argv[:1] == ['-m'] and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler):
  signal.signal(signal.SIGINT, signal.SIG_DFL)
