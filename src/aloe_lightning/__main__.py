"""`python -m aloe_lightning`."""

from aloe_lightning.app import main

if __name__ == "__main__":
    main()
