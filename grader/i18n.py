"""Student-facing text: English is the source, French a catalogue (`locale/fr/LC_MESSAGES/grader.po`)."""

from __future__ import annotations

import gettext as _gettext
from pathlib import Path
from typing import Literal

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")
LOCALE = Path(__file__).parent / "locale"

_catalogue: _gettext.NullTranslations = _gettext.NullTranslations()


def use(language: str) -> None:
    """Speak `language` from here on, in this process. Unknown languages speak English."""
    global _catalogue
    if language == "en":  # needs no looking for
        _catalogue = _gettext.NullTranslations()
    else:
        _catalogue = _gettext.translation("grader", LOCALE, [language], fallback=True)


def language() -> str:
    """What is spoken, as HTML calls it."""
    return _catalogue.info().get("language", "en")


def _(message: str) -> str:
    """`message` in the language in use. Fill in values after, with `.format()`."""
    return _catalogue.gettext(message) if message else ""
