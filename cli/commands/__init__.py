"""One module a command of `forge`; `cli.main` registers them.

Each imports what it needs when it runs: all together take longer to load than most commands to answer.
"""
