"""The commands of `forge`, one module each. `cli.main` registers them.

A command imports other modules when it runs: loading all of them takes longer than most commands need.
"""
