"""The engine on Ray: the router and every decoder as actors, on one machine or a cluster.

`placement` says how many and where; `engine` starts them and is what `superlink.load` takes.
"""
