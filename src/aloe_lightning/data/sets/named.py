"""What the named sets have in common: a data root, official files, and counts that are asserted."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aloe_lightning.data.catalogue.card import Card, stands
from aloe_lightning.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A set of the catalogue.

    Attributes:
        root: the data root, which holds the set's official folder.
        verify: hold files to the published MD5 sums and counts; False for a copy known to differ, such as a part.
    """

    card: ClassVar[Card]
    root: str
    verify: bool = True

    @property
    def folder(self) -> Path:
        """The data root, absolute."""
        return Path(self.root).expanduser().absolute()

    def place(self) -> tuple[Path, ...]:
        """Where the set lies: the paths of the first layout that is there in full.

        Raises:
            UserError: saying what is missing and how to get it.
        """
        layout = self.card.layout(self.folder)
        if layout is not None:
            return tuple(self.folder / path for path in layout)
        wanted = self.card.layouts[0]
        missing = [path for path in wanted if not stands(self.folder / path)]
        if len(missing) < len(wanted):
            what = f"is incomplete in {self.folder}, {', '.join(missing)} missing"
        else:
            what = f"is not there: no {' nor '.join(paths[0] for paths in self.card.layouts)} in {self.folder}"
        raise UserError(f"{self.card.title} {what}: {self.card.remedy(self.folder)}, or set data.root")

    def expect(self, what: str, found: int, published: int) -> None:
        """Assert a count, if counts are asserted at all.

        Raises:
            UserError: if it is another.
        """
        if self.verify and found != published:
            again = f"move it away and run {self.card.command(self.folder)}, or " if self.card.archives else ""
            raise UserError(
                f"{self.card.title} in {self.folder}: {found:,} {what} where the official set has {published:,}; "
                f"{again}set data.verify=false if you know this copy"
            )
