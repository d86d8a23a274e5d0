"""The local endpoint: llama.cpp behind the contract of an Azure ML online endpoint.

``server`` and ``routes`` answer HTTP, ``access`` says to whom and ``answering`` with what,
``deployments`` holds the table of what runs, ``engine``
starts one ``engine_process`` for each, so that a crash takes down that deployment alone.
"""
