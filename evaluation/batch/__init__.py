"""Batch runs of a flow: promptflow's own executor, its lines on threads of this process.

``pf run create`` gives every worker a process of its own, which costs seconds before the first
line, and memory. A line that waits for an endpoint needs neither. What is run here is recorded by
promptflow as any run is: ``pf run list``, ``show-details``, ``show-metrics`` and ``visualize`` show
it.
"""
