"""What the pages of console and portal share: forms, lists, sessions, live parts, and the filters of their templates."""

from pipeline.core.templating import add_filters
from pipeline.interfaces.pages.filters import FILTERS

add_filters(FILTERS)
