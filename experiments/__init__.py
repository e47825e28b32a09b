"""Programs a person runs; each is `python -m experiments.ROOM.NAME --flags`.

Imports point one way: cli -> data -> devices -> mnist -> {view, speed}, and
cli -> data -> {accuracy, formula}. The library never imports from here.
"""
