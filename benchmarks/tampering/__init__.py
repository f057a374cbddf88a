"""A small log, everything an attacker can do to its files, and what the verifier says to each."""
