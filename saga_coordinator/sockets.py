"""The bounds that the operating system sets to addresses. Everybody may import this module: it imports nothing."""

UNIX_PATH_BYTES_MAX = 107
"""The longest path of a unix socket that Linux takes, in bytes (`sun_path`, without its NUL)."""

PORT_MAX = 65535
