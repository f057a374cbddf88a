"""MCP hosts: the entry of a mesh or a tool server in the files of the assistants people use.

`table` knows the hosts, `entries` what each wants to read, `formats` how a text gains or loses one entry and nothing
else; `config_file` alone touches a file.
"""

from __future__ import annotations
