"""What pages are made with: templates, filters, and the one script, which is the only one that may run."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hwloop.report.wording import FILTERS


def page_environment() -> Environment:
    """Return the environment of templates: what is put into a page is escaped unless it is marked.

    Pages load nothing, and run no script but ``page.js``: their content security policy names its digest.
    """
    environment = Environment(
        loader=PackageLoader("hwloop.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (resources.files("hwloop.report") / "templates" / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_digest=digest)  # noqa: S704  our own file
    environment.filters.update(FILTERS)
    return environment
