"""The local endpoint: llama.cpp behind the contract of an Azure ML online endpoint.

``server`` and ``routes`` answer HTTP, ``endpoint`` holds the table of what runs, ``engine`` starts
one ``engine_process`` for each deployment, so that a crash or a broken model file takes down that
deployment and nothing else.
"""
