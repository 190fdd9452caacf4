"""`python -m aloe_lightning`."""

from aloe_lightning.cli.main import main

if __name__ == "__main__":
    main()
