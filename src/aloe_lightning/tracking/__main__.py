"""`python -m aloe_lightning.tracking`."""

import sys

from aloe_lightning.tracking.dashboard import main

if __name__ == "__main__":
    sys.exit(main())
