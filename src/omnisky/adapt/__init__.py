"""EMBEDDING OR MODEL → ANSWER: a model and a few labels, probes, pooling, fine-tuning, honest scores."""

from omnisky.adapt.adaptations import KNN as KNN
from omnisky.adapt.adaptations import MLP as MLP
from omnisky.adapt.adaptations import AttentiveMixture as AttentiveMixture
from omnisky.adapt.adaptations import AttentivePooling as AttentivePooling
from omnisky.adapt.adaptations import AttentiveQuantileRegression as AttentiveQuantileRegression
from omnisky.adapt.adaptations import FullFineTuning as FullFineTuning
from omnisky.adapt.adaptations import Linear as Linear
from omnisky.adapt.adaptations import LoRA as LoRA
from omnisky.adapt.adaptations import LoRAMixture as LoRAMixture
from omnisky.adapt.adaptations import MeanPooling as MeanPooling
from omnisky.adapt.adaptations import MixtureDensity as MixtureDensity
from omnisky.adapt.adaptations import QuantileRegression as QuantileRegression
from omnisky.adapt.adaptations import Segmentation as Segmentation
from omnisky.adapt.finetuned import FineTunedModel as FineTunedModel
