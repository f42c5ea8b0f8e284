"""Reading of YAML configuration: a path in, whatever the file holds out, or one line that says why not."""

from pathlib import Path

import yaml

from recsys.exceptions import InvalidInputError


def read_yaml(path: Path, what: str, refusal: type[InvalidInputError] = InvalidInputError) -> object:
    """The content of a YAML file, made of plain types; None if it is empty.

    Args:
        what: what the file is, for people. refusal: the error to raise.

    Raises:
        InvalidInputError: the file cannot be read, or is not YAML.
    """
    try:
        content: object = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise refusal(f"{what} {path} cannot be read ({error.strerror}); name an existing file") from None
    except RecursionError:
        raise refusal(f"{what} {path} is nested too deeply to be read") from None
    except (yaml.YAMLError, ValueError) as error:
        raise refusal(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from None
    return content
