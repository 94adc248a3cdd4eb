"""The figures people expect: arrays in, one PNG or .svg out, its path handed back. Needs the `plot` extra.

Each function draws on its own sheet (no pyplot, no window, no global state) in one style: near-black, thin lines, one
accent colour, classes in eight colours that colour-blind eyes tell apart.
"""

from omnisky.plot.across import WAYS as WAYS
from omnisky.plot.across import four_ways as four_ways
from omnisky.plot.answers import Curve as Curve
from omnisky.plot.answers import learning_curves as learning_curves
from omnisky.plot.answers import photo_z as photo_z
from omnisky.plot.answers import pit_histogram as pit_histogram
from omnisky.plot.atlas import map_with_thumbnails as map_with_thumbnails
from omnisky.plot.charts import PowerLaw as PowerLaw
from omnisky.plot.charts import Yardstick as Yardstick
from omnisky.plot.charts import confusion as confusion
from omnisky.plot.charts import curve as curve
from omnisky.plot.charts import scaling_law as scaling_law
from omnisky.plot.charts import yardsticks as yardsticks
from omnisky.plot.codec import before_after as before_after
from omnisky.plot.codec import flux_bias as flux_bias
from omnisky.plot.gallery import completions as completions
from omnisky.plot.gallery import lookalike_wall as lookalike_wall
from omnisky.plot.gallery import predictions as predictions
from omnisky.plot.lines import spectra as spectra
from omnisky.plot.maps import overlays as overlays
from omnisky.plot.maps import property_map as property_map
from omnisky.plot.patches import patch_colours as patch_colours
from omnisky.plot.patches import principal_colours as principal_colours
from omnisky.plot.posteriors import pit as pit
from omnisky.plot.posteriors import posteriors as posteriors
from omnisky.plot.properties import properties as properties
from omnisky.plot.wall import wall as wall
