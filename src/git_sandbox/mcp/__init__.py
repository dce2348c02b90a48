"""`sandbox mcp`: tools for an agent on the host. Each call is a verb of the command line, in a process of its own.

The agent may have read a hostile text, so its calls are hostile text, too. It can add sandboxes and look at all of
them; what reaches further (`consent`) needs the user. Only `server` knows the SDK of the extra `git-sandbox[mcp]`.
"""
