"""Any → any: continue a sequence (AstroPT), fill in modalities (AION), or say how likely each value of a number is."""

from omnisky.generate.answers import answers as answers
from omnisky.generate.filling import MaskGit as MaskGit
from omnisky.generate.filling import Roar as Roar
from omnisky.generate.filling import fill as fill
from omnisky.generate.patches import generate as generate
from omnisky.generate.posterior import Posterior as Posterior
from omnisky.generate.posterior import posterior as posterior
from omnisky.generate.posterior import posteriors as posteriors
