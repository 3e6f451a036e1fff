"""The command, as `python -m certbot_standalone_nfq`."""

from __future__ import annotations

import sys

from certbot_standalone_nfq.cli.main import main

sys.exit(main())
