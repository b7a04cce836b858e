"""Short programs on what an installation has collected; each says how it is started."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")
