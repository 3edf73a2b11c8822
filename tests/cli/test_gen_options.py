"""The options of `adit-gen`, as they are read."""

from __future__ import annotations

import pytest

from adit.cli import gen_options
from adit.errors import InvalidInputError


def test_parse_atoms() -> None:
    assert gen_options.parse_atoms(None) is None
    assert gen_options.parse_atoms("18") == 18
    assert gen_options.parse_atoms("5-20") == gen_options.parse_atoms(" 5 : 20 ") == (5, 20)
    with pytest.raises(InvalidInputError, match="inverted"):
        gen_options.parse_atoms("9:3")
