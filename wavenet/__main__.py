"""`python -m wavenet` is the `wavenet` command."""

from wavenet.cli import main

main()
