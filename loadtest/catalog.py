"""The scenarios that come with Pushwire, and files of the user's own."""

from importlib import resources
from pathlib import Path
from typing import Final

from loadtest.run.spec import SpecError

_SUFFIX: Final = ".toml"


def names() -> list[str]:
    """Name the scenarios that come with Pushwire."""
    files = resources.files("loadtest.scenarios").iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def text_of(scenario: str) -> tuple[str, str]:
    """Find a scenario by its name, or by the path of a file; gives name and text.

    Raises:
        SpecError: there is none.
    """
    if scenario in names():
        file = resources.files("loadtest.scenarios").joinpath(scenario + _SUFFIX)
        return scenario, file.read_text()
    path = Path(scenario)
    if path.suffix == _SUFFIX or len(path.parts) > 1:
        try:
            return path.stem, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text"
            raise SpecError(f"{scenario}: {reason}") from None
    known = ", ".join(names())
    raise SpecError(f"no scenario {scenario!r}: accepts {known}, or a file that ends in {_SUFFIX}")
