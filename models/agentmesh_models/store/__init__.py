"""The models on this machine: what was pulled from the hub or the web, what was added, and how more is had.

It trusts the hub for the digest of a file at the first pull, and `models.lock` from then on: whoever can write in the
models' folder can lie to this user. It does not know llama.cpp.
"""
